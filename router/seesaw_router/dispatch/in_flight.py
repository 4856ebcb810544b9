"""The calls in flight to one worker, each of which is checked regularly and can be cancelled."""

import asyncio
from types import TracebackType
from typing import Self

_CHECK_S = 0.5


class Calls:
    """All calls in flight to one worker. One timer checks them while there are any."""

    def __init__(self, worker: str) -> None:
        self.worker = worker
        self._calls: set[Call] = set()
        self._is_checking = False

    def add(self, call: "Call") -> None:
        """Check a call twice a second, until :meth:`remove`."""
        self._calls.add(call)
        if not self._is_checking:
            self._is_checking = True
            asyncio.get_running_loop().call_later(_CHECK_S, self._check)

    def remove(self, call: "Call") -> None:
        """Stop checking a call, which has ended."""
        self._calls.remove(call)

    def cancel_all(self) -> None:
        """Cancel every call, now."""
        for call in list(self._calls):
            call.cancel()

    def _check(self) -> None:
        self._is_checking = bool(self._calls)
        if self._is_checking:
            asyncio.get_running_loop().call_later(_CHECK_S, self._check)
        for call in list(self._calls):
            call.check()


class Call:
    """A context during which a call to a worker is in flight.

    Raises: ConnectionResetError on exit, if the call was cancelled.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._scope = asyncio.timeout(None)

    async def __aenter__(self) -> Self:
        await self._scope.__aenter__()
        self._calls.add(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._calls.remove(self)
        try:
            await self._scope.__aexit__(kind, error, trace)
        except TimeoutError as cancelled:
            raise ConnectionResetError(f"{self._calls.worker} has vanished") from cancelled

    def check(self) -> None:
        """Cancel the call if something is wrong with it. Does nothing here; see subclasses."""

    def cancel(self) -> None:
        """Cancel the call, unless it has been cancelled already."""
        if not self._scope.expired():
            self._scope.reschedule(asyncio.get_running_loop().time())
