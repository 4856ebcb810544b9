"""vLLM's parser of ``vllm serve``, its checks, its logging and its listening socket."""

import difflib
import re
import socket
from argparse import Namespace
from collections.abc import Callable
from typing import NoReturn

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.entrypoints.launchers.launcher import setup_server
from vllm.logger import configure_logging_from_args
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.utils.import_utils import resolve_obj_by_qualname

from seesaw_core.errors import InputError
from seesaw_flags.parser import ExactValues
from seesaw_worker.upstream.refusals import plain, refusals

DEFAULT_MODEL: str = AsyncEngineArgs.model

_NO_JSON = re.compile(
    r"Value (.*) cannot be converted to <function loads at 0x[0-9a-f]+>\.?"
    r"|invalid loads value: (.*)"
)
_FUNCTION = re.compile(r"<function (\w+) at 0x[0-9a-f]+>")


class _Parser(ExactValues, FlexibleArgumentParser):
    """vLLM's parser, which raises Seesaw's errors."""

    own_group: str

    def error(self, message: str) -> NoReturn:
        message = _NO_JSON.sub(lambda m: f"{m[1] or m[2]} is not valid JSON", message)
        message = plain(_FUNCTION.sub(lambda m: m[1], message))
        unknown, _, rest = message.partition("unrecognized arguments: ")
        if rest and not unknown:
            given = rest.split()[0].partition("=")[0]
            near = difflib.get_close_matches(given, self._option_string_actions, n=1)
            message += f"; did you mean {near[0]}?" if near else ""
        raise InputError(f"{message} (`seesaw worker --help` lists the flags)")

    def format_help(self) -> str:
        """Return vLLM's overview of groups, and Seesaw's own flags in full."""
        text: str = super().format_help()
        if self._search_keyword is not None:
            return text
        formatter = self._get_formatter()
        for group in self._action_groups:
            if group.title == self.own_group:
                formatter.start_section(group.title)
                formatter.add_text(group.description)
                formatter.add_arguments(group._group_actions)  # noqa: SLF001 - as vLLM's own does
                formatter.end_section()
        ours: str = formatter.format_help()
        return f"{text}\n{ours}\nvLLM's flags: --help=all, --help=GROUP such as --help=Frontend.\n"


def serve_parser(
    add_flags: Callable[[FlexibleArgumentParser], None], own_group: str
) -> FlexibleArgumentParser:
    """Return vLLM's serve parser with the flags that ``add_flags`` adds to ``own_group``."""
    parser = _Parser(
        prog="seesaw worker",
        usage="seesaw worker MODEL [options]",
        description="Serve MODEL over an OpenAI-compatible HTTP API. The flags of `vllm serve` "
        "work, or are refused by name. The flags of the group Seesaw set the two layouts and "
        "when to change between them.",
    )
    parser.own_group = own_group
    add_flags(parser)
    return make_arg_parser(parser)


def check_served(args: Namespace) -> None:
    """Run vLLM's own checks of parsed flags, and set up its logging. Raises: InputError."""
    with refusals():
        validate_parsed_serve_args(args)
        configure_logging_from_args(args)


def check_importable(name: str) -> None:
    """Check that a dotted name can be imported. Raises: InputError."""
    try:
        resolve_obj_by_qualname(name)
    except (AttributeError, ImportError, ValueError) as error:
        raise InputError(f"--middleware={name} cannot be imported: {error}") from error


def open_listener(args: Namespace) -> socket.socket:
    """Return vLLM's listening socket. Raises: the errors of vLLM and of the system."""
    listener: socket.socket
    _, listener = setup_server(args, reuse_port=False)
    return listener
