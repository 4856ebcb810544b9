"""Translates the errors of vLLM, its libraries and the system on bad input into one line.

It is used at the edge, around calls that only read flags and files, where such an error means that
an input is wrong, never that this process is broken.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from pydantic import ValidationError
from vllm.exceptions import VLLMError

from seesaw_core.errors import InputError

_PYDANTIC = re.compile(
    r"\d+ validation errors? for \w+ (?:Value error, )?"
    r"| \[type=\w+, input_value=.*?, input_type=\w+\]"
    r"| For further information visit \S+"
)
_REFUSALS = (
    ArithmeticError,
    ImportError,
    LookupError,
    NotImplementedError,
    OSError,
    StrictDataclassError,
    TypeError,
    VLLMError,
    ValueError,
)


@contextmanager
def refusals() -> Iterator[None]:
    """Raise errors about an input as InputError, in one line."""
    try:
        yield
    except InputError:
        raise
    except ValidationError as error:
        raise InputError(_complaints(error)) from error
    except _REFUSALS as error:
        raise InputError(one_line(error)) from error


def one_line(error: Exception) -> str:
    """Return an error's message on one line."""
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    return plain(str(message)).removeprefix("Error: ") or type(error).__name__


def plain(text: str) -> str:
    """Return a message on one line, without what pydantic adds for developers."""
    return _PYDANTIC.sub("", " ".join(text.split()))


def _complaints(error: ValidationError) -> str:
    """Return pydantic's complaints, each with the flag, its value and the problem."""
    return "; ".join(_complaint(dict(c)) for c in error.errors(include_url=False))


def _complaint(complaint: dict[str, Any]) -> str:
    message = plain(str(complaint["msg"])).removeprefix("Value error, ")
    where = [str(part) for part in complaint["loc"]]
    if not where:
        return message
    if complaint["type"] in ("missing", "unexpected_keyword_argument"):  # of a flag's JSON
        return f"{'.'.join(where)}: {message[:1].lower()}{message[1:]}"
    flag = "--" + ".".join(where).replace("_", "-")
    return f"{flag}={complaint['input']}: {message[:1].lower()}{message[1:]}"
