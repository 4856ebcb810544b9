"""The router's settings, which are read once from the command line and then passed down."""

import re
from dataclasses import dataclass, field
from math import inf

from seesaw_core.errors import InputError
from seesaw_core.routing.ejection import EjectionPolicy
from seesaw_core.routing.waves import WavePolicy
from seesaw_flags.logs import LogSettings
from seesaw_router.limits import Limits

_WORKER_URL = re.compile(
    r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*"
)
_HARMLESS = re.compile(r"[A-Za-z0-9.:/_-]{1,200}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSettings:
    """All settings of a router.

    workers: base URLs of workers.
    service: instead of ``workers``, ``NAMESPACE/NAME`` of the headless Service of their pods.
    policy: how prompts gather into waves.
    max_queued: the most requests that wait; more are refused with 429.
    max_body_bytes: the largest body of a request.
    max_attempts: the most workers that a request is sent to before its client gets an error.
    drain_timeout_s: how long the router waits for running requests after SIGTERM, in seconds.
    max_unserved_s: how long a request waits while no worker serves, in seconds.
    max_worker_silence_s: how long a worker may send nothing before its requests are cancelled, in
        seconds.
    max_answer_silence_s: how long one answer may send nothing while its worker is alive.
    limits: the bytes, sockets and time that clients may take.
    ejection: when a worker that fails gets no requests for a while.
    log: what is logged, and in which form.

    Raises: InputError if a figure is out of range.
    """

    policy: WavePolicy
    workers: tuple[str, ...] = ()
    service: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    max_queued: int = 4096
    max_body_bytes: int = 64 << 20
    max_attempts: int = 4
    drain_timeout_s: float = 600.0
    max_unserved_s: float = 60.0
    max_worker_silence_s: float = 30.0
    max_answer_silence_s: float = 3600.0
    limits: Limits = field(default_factory=Limits)
    ejection: EjectionPolicy = field(default_factory=EjectionPolicy)
    log: LogSettings = field(default_factory=LogSettings)

    def __post_init__(self) -> None:
        if bool(self.workers) == (self.service is not None):
            raise InputError("give --worker URL, once for each worker, or --service NAMESPACE/NAME")
        for url in self.workers:
            _check_worker(url)
        if not 0 < self.port < 65536:
            raise InputError(f"--port={self.port}: must be from 1 to 65535")
        for flag in ("max_queued", "max_body_bytes", "max_attempts"):
            if getattr(self, flag) < 1:
                name = "--" + flag.replace("_", "-")
                raise InputError(f"{name} must be at least 1, got {getattr(self, flag)}")
        for flag in ("max_unserved_s", "max_worker_silence_s", "max_answer_silence_s"):
            if not 0 < getattr(self, flag) < inf:
                name = "--" + flag.replace("_", "-")
                raise InputError(f"{name} must be above 0, got {getattr(self, flag)}")
        if not 0 <= self.drain_timeout_s < inf:
            raise InputError(
                f"--drain-timeout-s={self.drain_timeout_s}: must be a number of at least 0"
            )


def _check_worker(url: str) -> None:
    """Check a URL. Raises: InputError, whose message shows nothing that may be a secret."""
    match = _WORKER_URL.fullmatch(url)
    if match is not None and 0 < int(match[2] or 1) < 65536:
        return
    shown = url if _HARMLESS.fullmatch(url) else "..."
    raise InputError(
        f"--worker={shown}: must be a URL such as http://127.0.0.1:8001, without credentials, "
        "query or fragment; clients send their own Authorization"
    )
