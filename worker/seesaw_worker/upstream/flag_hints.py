"""Finds the flag that a refusal of vLLM is about, where its message does not name one."""

import copy
import json
from collections.abc import Callable, Mapping
from typing import TypeVar

from seesaw_core.errors import InputError

_NOT_A_FLAG = frozenset({"model", "model_tag"})
_SHOWN_CHARS = 200

Args = TypeVar("Args")
Result = TypeVar("Result")


def as_written(name: str, value: object) -> str:
    """Return a flag as it is written on a command line."""
    flag = "--" + name.replace("_", "-")
    if value is True:
        return flag
    if value is False:
        return f"--no-{flag[2:]}"
    shown = value if isinstance(value, str | int | float) else json.dumps(value, default=str)
    text = f"{flag}={shown}"
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"


def naming_the_flag(
    args: Args, defaults: Mapping[str, object], attempt: Callable[[Args], Result]
) -> Result:
    """Call ``attempt`` with the flags. If its error names no flag, find the flag at fault.

    That is the flag without which the attempt succeeds.
    Requires: ``attempt`` can be repeated. Raises: InputError.
    """
    try:
        return attempt(args)
    except InputError as error:
        given = {
            name: value
            for name, default in defaults.items()
            if (value := getattr(args, name, default)) != default and name not in _NOT_A_FLAG
        }
        if any("--" + name.replace("_", "-") in str(error) for name in given):
            raise
        for name, value in given.items():
            without = copy.copy(args)
            setattr(without, name, defaults[name])
            try:
                attempt(without)
            except InputError:
                continue
            raise InputError(f"{as_written(name, value)}: {error}") from error
        raise
