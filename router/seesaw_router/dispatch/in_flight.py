"""The calls that are in flight to one worker: each is checked regularly, and can be cancelled."""

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
        """Have a call checked twice a second, until :meth:`remove`."""
        self._calls.add(call)
        if not self._is_checking:
            self._is_checking = True
            asyncio.get_running_loop().call_later(_CHECK_S, self._check)

    def remove(self, call: "Call") -> None:
        """Check a call no more: it has ended."""
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
    """A context during which something is in flight to a worker.

    Raises: ConnectionResetError when it is left, if the call was cancelled.
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
        """Look whether all is well. The timer calls this; subclasses say what they look at."""

    def cancel(self) -> None:
        """Break the call off, unless that has happened already."""
        if not self._scope.expired():
            self._scope.reschedule(asyncio.get_running_loop().time())
