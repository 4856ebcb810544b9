"""Refuses flags of ``seesaw serve`` that would change the address of its worker.

The router is the endpoint, with its host, port and access control. The worker behind it listens
on the loopback address, without TLS, on a free port.
"""

from collections.abc import Sequence
from pathlib import Path

from seesaw_core.errors import InputError
from seesaw_worker.settings.config_file import config_path, read_config

_ROUTER_SPEAKS_HTTP = "the router in front speaks plain HTTP; put a TLS proxy before it"
_ROUTER_LISTENS = "the router in front listens; give it --host and --port"
_ROUTER_SERVES = "clients connect to the router, which has no such flag; put a proxy before it"
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
"""Flags with which the router could not reach the worker, or clients could not reach either."""

_ROUTERS_OWN = ("host", "port")


def check_worker_flags(arguments: Sequence[str]) -> None:
    """Refuse flags that would make the worker unreachable, also those of a ``--config`` file.

    Raises: InputError naming the flag and the file.
    """
    for argument in arguments:
        _check(argument.partition("=")[0].replace("_", "-"), where="")
    if (file := config_path(arguments)) is not None:
        _check_file(file)


def _check(name: str, *, where: str) -> None:
    for refused, why in REFUSED.items():
        # An abbreviation reaches the worker as the flag that it stands for.
        if name == refused or (len(name) > len("--u") and refused.startswith(name)):
            raise InputError(f"{refused}{where} does not work with seesaw serve: {why}{_DIRECT}")


def _check_file(path: Path) -> None:
    where = f" in --config={path}"
    for key in read_config(path):
        name = key.replace("_", "-")
        if name in _ROUTERS_OWN:
            raise InputError(
                f"--{name}{where} does not work with seesaw serve: {_ROUTER_LISTENS}, on the "
                f"command line{_DIRECT}"
            )
        _check(f"--{name}", where=where)
