"""Parses ``seesaw worker``'s command line with vLLM's own parser."""

import difflib
import re
import socket
from argparse import Namespace
from pathlib import Path
from typing import NoReturn

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.entrypoints.launchers.launcher import setup_server
from vllm.utils.argparse_utils import FlexibleArgumentParser

from seesaw_core.errors import InputError
from seesaw_worker.flags import add_flags
from seesaw_worker.refusals import plain, refusals

_LOADER = re.compile(r"cannot be converted to <function loads at 0x[0-9a-f]+>\.?")
_SSL_FILES = ("ssl_keyfile", "ssl_certfile", "ssl_ca_certs")


class _Parser(FlexibleArgumentParser):
    """vLLM's parser, whose complaints are errors of ours."""

    def error(self, message: str) -> NoReturn:
        message = plain(_LOADER.sub("is no valid JSON", message))
        unknown, _, rest = message.partition("unrecognized arguments: ")
        if rest and not unknown:
            given = rest.split()[0].partition("=")[0]
            near = difflib.get_close_matches(given, self._option_string_actions, n=1)
            message += f"; did you mean {near[0]}?" if near else ""
        raise InputError(f"{message} (`seesaw worker --help` lists the flags)")


def make_parser() -> FlexibleArgumentParser:
    """vLLM's serve parser with our flags added."""
    parser = _Parser(
        prog="seesaw worker",
        usage="seesaw worker MODEL [options]",
        description="Serve MODEL over an OpenAI-compatible HTTP API. Every flag of `vllm serve` "
        "works; those of the group Seesaw set the two layouts and when to change between them.",
    )
    add_flags(parser)
    return make_arg_parser(parser)


def parse(arguments: list[str]) -> Namespace:
    """Parse and check flags. Raises: InputError."""
    with refusals():
        args: Namespace = make_parser().parse_args(_with_config_apart(arguments))
    if args.model_tag is not None:
        args.model = args.model_tag
    elif args.model == AsyncEngineArgs.model:
        raise InputError("no MODEL given: `seesaw worker MODEL` takes a folder or a hub name")
    if (args.api_server_count or 1) > 1 or args.headless or args.grpc:
        raise InputError(
            "--api-server-count, --headless and --grpc are not available: a worker is one server "
            "on one node; scale by running more workers"
        )
    if not 0 <= args.port <= 65535:
        raise InputError(f"--port={args.port}: must be from 0 to 65535")
    for name in _SSL_FILES:
        path = getattr(args, name)
        if path is not None and not Path(path).exists():
            raise InputError(f"--{name.replace('_', '-')}={path}: no such file")
    with refusals():
        validate_parsed_serve_args(args)
    return args


def _with_config_apart(arguments: list[str]) -> list[str]:
    """``--config=FILE`` as ``--config FILE``, the one form in which vLLM reads the file."""
    apart: list[str] = []
    for argument in arguments:
        flag, equals, file = argument.partition("=")
        apart += [flag, file] if flag == "--config" and equals else [argument]
    return apart


def listen(args: Namespace) -> socket.socket:
    """vLLM's own check of the server's flags, and its socket. Raises: InputError."""
    listener: socket.socket
    with refusals():
        try:
            _, listener = setup_server(args, reuse_port=False)
        except (OSError, OverflowError) as error:
            host = f"--host={args.host} " if args.host else ""
            place = f"--uds={args.uds}" if args.uds else f"{host}--port={args.port}"
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"cannot listen on {place}: {reason}; choose another") from error
    return listener
