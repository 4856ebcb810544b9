"""Requests that the driver does not know yet: over the limit, or without their grammar."""

from vllm.v1.request import Request, RequestStatus


class Admission:
    """A queue in the order of arrival. A request whose grammar is being compiled is passed."""

    def __init__(self, max_requests: int) -> None:
        self._max_requests = max_requests
        self._queue: dict[str, Request] = {}
        self._failed: list[Request] = []

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def num_tokens(self) -> int:
        return sum(request.num_tokens for request in self._queue.values())

    def add(self, request: Request) -> None:
        self._queue[request.request_id] = request

    def remove(self, key: str) -> bool:
        """Remove a request; return whether it was here."""
        return self._queue.pop(key, None) is not None

    def admit(self, num_inside: int) -> list[Request]:
        """Return the next requests, as many as may join those inside."""
        room = self._max_requests - num_inside
        ready: list[Request] = []
        for request in self._queue.values():
            if len(ready) >= room:
                break
            if self._is_ready(request):
                ready.append(request)
        for request in ready:
            del self._queue[request.request_id]
        return ready

    def take_failed(self) -> list[Request]:
        """Return requests whose grammar cannot be compiled, once each."""
        failed = [r for r in self._failed if r.request_id in self._queue]
        self._failed = []
        return failed

    def _is_ready(self, request: Request) -> bool:
        if request.status is not RequestStatus.WAITING_FOR_STRUCTURED_OUTPUT_GRAMMAR:
            return True
        wanted = request.structured_output_request
        if wanted is None or wanted.grammar is None:
            return False
        if isinstance(wanted.grammar, Exception):
            self._failed.append(request)
            return False
        request.status = RequestStatus.WAITING
        return True
