"""Parses the command line of ``seesaw worker`` with vLLM's own parser."""

import contextlib
import math
import os
import socket
import ssl
import stat
from argparse import ArgumentParser, Namespace
from functools import cache
from pathlib import Path

from seesaw_core.errors import InputError
from seesaw_worker.server.flags import FLAGS, GROUP, add_flags
from seesaw_worker.settings.config_file import config_path, read_config, separate_config
from seesaw_worker.upstream.flag_hints import as_written, naming_the_flag
from seesaw_worker.upstream.refusals import refusals
from seesaw_worker.upstream.serve_parser import (
    DEFAULT_MODEL,
    check_importable,
    check_served,
    open_listener,
    serve_parser,
)
from seesaw_worker.upstream.vllm_flags import refuse_vllm_flags

_LOGGING = ("enable_log_requests", "aggregate_engine_logging", "enable_logging_iteration_details")
_LEAST = {
    "h11_max_incomplete_event_size": 1,
    "h11_max_header_count": 1,
    "renderer_num_workers": 1,
    "seed": 0,
    "distributed_timeout_seconds": 1,
    "cpu_distributed_timeout_seconds": 1,
    "mm_processor_cache_gb": 0,
}
"""The least values of flags that vLLM checks only after loading, or never."""
_SSL_FILES = ("ssl_keyfile", "ssl_certfile", "ssl_ca_certs")


def make_parser() -> ArgumentParser:
    """Return the parser of ``vllm serve`` with Seesaw's flags added."""
    parser: ArgumentParser = serve_parser(add_flags, GROUP)
    return parser


def parse(arguments: list[str]) -> Namespace:
    """Parse and check the flags. Raises: InputError."""
    if (file := config_path(arguments)) is not None:
        read_config(file)
    with refusals():
        args: Namespace = make_parser().parse_args(separate_config(arguments))
    if args.model_tag is not None:
        args.model = args.model_tag
    elif args.model == DEFAULT_MODEL:
        raise InputError("no MODEL given: `seesaw worker MODEL` takes a folder or a hub name")
    refuse_vllm_flags(args, vllm_defaults(), reshards=False, shares_weights=False)
    if not 0 <= args.port <= 65535:
        raise InputError(f"--port={args.port}: must be from 0 to 65535")
    for name, least in _LEAST.items():
        value = getattr(args, name)
        if value is not None and not least <= value < math.inf:
            raise InputError(f"{as_written(name, value)}: must be a number of at least {least}")
    for name in _SSL_FILES:
        path = getattr(args, name)
        if path is not None and not Path(path).is_file():
            raise InputError(f"--{name.replace('_', '-')}={path}: no such file")
    if any(getattr(args, name) for name in _LOGGING) and not hasattr(args, "log_level"):
        args.log_level = "INFO"  # where vLLM logs them; a worker logs warnings only by default
    check_served(args)
    return args


@cache
def vllm_defaults() -> dict[str, object]:
    """Return the default value of each of vLLM's flags."""
    ours = {flag.attribute for flag in FLAGS}
    defaults = vars(make_parser().parse_args([]))
    return {name: value for name, value in defaults.items() if name not in ours}


def listen(args: Namespace) -> socket.socket:
    """Check the server's flags as vLLM does and open its socket. Raises: InputError."""
    for name in args.middleware:
        check_importable(name)
    if args.ssl_cert_reqs not in tuple(ssl.VerifyMode):
        raise InputError(f"--ssl-cert-reqs={args.ssl_cert_reqs}: must be 0, 1 or 2")
    listener: socket.socket = naming_the_flag(args, vllm_defaults(), _listen)
    return listener


def _listen(args: Namespace) -> socket.socket:
    if args.uds:
        _remove_stale_socket(Path(args.uds))
    with refusals():
        try:
            return open_listener(args)
        except (OSError, OverflowError) as error:
            host = f"--host={args.host} " if args.host else ""
            place = f"--uds={args.uds}" if args.uds else f"{host}--port={args.port}"
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"cannot listen on {place}: {reason}; choose another") from error


def _remove_stale_socket(path: Path) -> None:
    """Remove this user's socket if no process listens on it: vLLM's server does not do so."""
    with contextlib.suppress(FileNotFoundError, PermissionError):
        status = path.lstat()
        if not stat.S_ISSOCK(status.st_mode) or status.st_uid != os.geteuid():
            return
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()


def address(listener: socket.socket, args: Namespace) -> str:
    """Return the URL on which a socket listens, with a note if it listens on every interface."""
    scheme = "https" if args.ssl_certfile else "http"
    if listener.family == socket.AF_UNIX:
        return f"{scheme}+unix:{args.uds}"
    host, port = listener.getsockname()[:2]
    everywhere = " (every IPv4 interface)" if host == "0.0.0.0" else ""
    everywhere = " (every interface)" if host == "::" else everywhere
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{everywhere}"
