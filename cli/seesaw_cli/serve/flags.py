"""Which flags of ``seesaw serve`` are about its endpoint, and who gets them.

The endpoint is the router's: host, port and what guards them. The worker behind it stays on the
loopback address, without TLS, on a port of its own.
"""

from collections.abc import Sequence
from pathlib import Path

from seesaw_core.errors import InputError
from seesaw_worker.settings.config_file import config_path, read_config

_ROUTER_SPEAKS_HTTP = "the router in front speaks plain HTTP; put a TLS proxy before it"
_ROUTER_LISTENS = "the router in front listens; give it --host and --port"
_ROUTER_SERVES = "clients reach the router in front, which has no such flag; put a proxy before it"
_DIRECT = ", or run seesaw worker itself"

REFUSED = {
    "--ssl-keyfile": _ROUTER_SPEAKS_HTTP,
    "--ssl-certfile": _ROUTER_SPEAKS_HTTP,
    "--ssl-ca-certs": _ROUTER_SPEAKS_HTTP,
    "--ssl-cert-reqs": _ROUTER_SPEAKS_HTTP,
    "--ssl-ciphers": _ROUTER_SPEAKS_HTTP,
    "--enable-ssl-refresh": _ROUTER_SPEAKS_HTTP,
    "--uds": _ROUTER_LISTENS,
    "--root-path": _ROUTER_SERVES,
}
"""Flags of the worker's that would keep the router from it, or clients from either."""

_ROUTERS_OWN = ("host", "port")


def check_worker_flags(arguments: Sequence[str]) -> None:
    """Refuse what would make the worker unreachable, in flags and in a ``--config`` file.

    Raises: InputError, naming the flag and where it stands.
    """
    for argument in arguments:
        _check(argument.partition("=")[0].replace("_", "-"), where="")
    if (file := config_path(arguments)) is not None:
        _check_file(file)


def _check(name: str, *, where: str) -> None:
    for refused, why in REFUSED.items():
        # An abbreviation reaches the worker as the flag that it stands for.
        if name == refused or (len(name) > len("--u") and refused.startswith(name)):
            raise InputError(f"{refused}{where} does not go with seesaw serve: {why}{_DIRECT}")


def _check_file(path: Path) -> None:
    where = f" in --config={path}"
    for key in read_config(path):
        name = key.replace("_", "-")
        if name in _ROUTERS_OWN:
            raise InputError(
                f"--{name}{where} does not go with seesaw serve: {_ROUTER_LISTENS}, on the command "
                f"line{_DIRECT}"
            )
        _check(f"--{name}", where=where)
