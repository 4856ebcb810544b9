"""Reads the bodies of requests in full, within the memory that all of them may take."""

from seesaw_router.limits import BodyBudget
from seesaw_router.server.exchange import Receive


class UploadError(Exception):
    """A request that is refused for its body, or because the router shuts down.

    ``status`` is 499 if the client left.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Upload:
    """One request's body, which counts against the budget until :meth:`release`."""

    def __init__(self, budget: BodyBudget, max_bytes: int) -> None:
        self._budget = budget
        self._max_bytes = max_bytes
        self._held = 0

    async def read(self, receive: Receive, declared: bytes | None) -> bytes:
        """Returns the whole body. ``declared``: its Content-Length. Raises: UploadError."""
        if declared is not None and int(declared) > self._max_bytes:
            raise self._too_large()
        parts: list[bytes] = []
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise UploadError(499, "the client left before its request was complete")
            part = message.get("body", b"")
            self._take(len(part))
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts) if len(parts) > 1 else parts[0]

    def release(self) -> None:
        """Return the bytes to the budget, since the body is no longer held."""
        self._budget.release(self._held)
        self._held = 0

    def _take(self, num_bytes: int) -> None:
        total = self._held + num_bytes
        if total > self._max_bytes:
            raise self._too_large()
        if not self._budget.acquire(num_bytes, total):
            raise UploadError(503, "the router holds as many bytes of requests as it may")
        self._held = total

    def _too_large(self) -> UploadError:
        return UploadError(
            413,
            f"the request is larger than {self._max_bytes} bytes; raise the router's "
            "--max-body-bytes",
        )
