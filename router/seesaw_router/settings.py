"""The router's settings: read once from the command line, then only passed down."""

import math
from dataclasses import dataclass

from seesaw_core.errors import InputError
from seesaw_core.waves import WavePolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSettings:
    """All that a router is told.

    workers: base URLs of workers.
    service: instead of them, ``NAMESPACE/NAME`` of the headless Service whose pods they are.
    policy: how prompts gather into waves.
    max_queued: how many requests may wait before more are refused with 429.
    max_body_bytes: the largest request.
    max_attempts: how many workers a request is tried on before its error goes to the client.
    drain_timeout_s: how long SIGTERM waits for running requests, in seconds.

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

    def __post_init__(self) -> None:
        if bool(self.workers) == (self.service is not None):
            raise InputError("give --worker URL, once for each worker, or --service NAMESPACE/NAME")
        if self.service is not None and (
            not all(self.service.partition("/")) or self.service.count("/") > 1
        ):
            raise InputError(f"--service={self.service}: must be NAMESPACE/NAME")
        for url in self.workers:
            if not url.startswith(("http://", "https://")):
                raise InputError(f"--worker={url}: must be a URL such as http://127.0.0.1:8001")
        if not 0 < self.port < 65536:
            raise InputError(f"--port={self.port}: must be from 1 to 65535")
        for flag in ("max_queued", "max_body_bytes", "max_attempts"):
            if getattr(self, flag) < 1:
                name = "--" + flag.replace("_", "-")
                raise InputError(f"{name} must be at least 1, got {getattr(self, flag)}")
        if not 0 <= self.drain_timeout_s < math.inf:
            raise InputError(
                f"--drain-timeout-s={self.drain_timeout_s}: must be a number of at least 0"
            )
