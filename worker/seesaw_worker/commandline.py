"""Parses ``seesaw worker``'s command line with vLLM's own parser."""

import os
from argparse import Namespace

from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.platforms import current_platform
from vllm.utils.argparse_utils import FlexibleArgumentParser

from seesaw_core.errors import InputError
from seesaw_worker.flags import add_flags


def make_parser() -> FlexibleArgumentParser:
    """vLLM's serve parser with our flags added."""
    parser = FlexibleArgumentParser(
        prog="seesaw worker",
        usage="seesaw worker MODEL [options]",
        description="Serve MODEL over an OpenAI-compatible HTTP API. Every flag of `vllm serve` "
        "works; those of the group Seesaw set the two layouts and when to change between them.",
    )
    add_flags(parser)
    return make_arg_parser(parser)


def parse(arguments: list[str]) -> Namespace:
    """Parse and check flags. Raises: InputError."""
    args = make_parser().parse_args(arguments)
    if args.model_tag is not None:
        args.model = args.model_tag
    if (args.api_server_count or 1) > 1 or args.headless or args.grpc:
        raise InputError(
            "--api-server-count, --headless and --grpc are not available: a worker is one server "
            "on one node; scale by running more workers"
        )
    try:
        validate_parsed_serve_args(args)
    except (TypeError, ValueError) as error:
        raise InputError(str(error)) from error
    if current_platform.is_cpu() and args.enforce_eager:
        # vLLM compiles a few helpers even when eager, which takes a C++ compiler and seconds
        # inside a request.
        os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    return args
