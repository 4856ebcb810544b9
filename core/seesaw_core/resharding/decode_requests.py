"""Requests inside the decode engine, and what they still hold.

A request is inside from when it is sent until its last output or its abort. A request that came
through the buffer holds an entry until the engine has loaded it or will not load it. A request in
place holds room in the engine's queue until its first output.
"""

from dataclasses import dataclass

from seesaw_core.resharding.events import Ending
from seesaw_core.resharding.ledger import Ledger
from seesaw_core.resharding.meters import InPlaceMeter

_QUEUED_STEPS = 2  # the step under way and the next one are full; other prompts may join a wave


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeRoom:
    """Limits of the decode engine: requests, and prompt tokens that are queued inside it.

    Prompts that the engine has not begun, for lack of steps or of KV pool, could still join a wave.
    So it gets only enough of them to fill its next steps.
    """

    num_requests: int
    num_queued_tokens: int

    @classmethod
    def of(cls, *, num_requests: int, step_tokens: int) -> "DecodeRoom":
        """Return the limits of an engine that computes ``step_tokens`` prompt tokens in a step."""
        return cls(num_requests=num_requests, num_queued_tokens=_QUEUED_STEPS * step_tokens)

    def is_left(self, num_running: int, queued_tokens: int) -> bool:
        return num_running < self.num_requests and queued_tokens < self.num_queued_tokens


class InDecode:
    """Requests inside the decode engine."""

    def __init__(self, ledger: Ledger, room: DecodeRoom, meter: InPlaceMeter) -> None:
        self._ledger, self._room, self._meter = ledger, room, meter
        self._ids: set[str] = set()
        self._not_begun: dict[str, int] = {}  # prompt tokens of requests in place without output
        self._queued_tokens = 0  # the sum of these
        self._claims: dict[str, str] = {}  # buffer entries by the request that will load them
        self._loading: set[str] = set()

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._ids

    @property
    def has_room(self) -> bool:
        """Whether the engine could begin another prompt soon."""
        return self._room.is_left(len(self._ids), self._queued_tokens)

    def awaits_output(self, request_id: str) -> bool:
        """Return whether a request is in place and has no output yet."""
        return request_id in self._not_begun

    def expect_loading(self, request_id: str, key: str) -> None:
        """Add a request that will load entry ``key`` and release it."""
        self._claims[request_id] = key
        self._ids.add(request_id)

    def expect_in_place(self, request_id: str, tokens: int, measured_from_s: float | None) -> None:
        """Add a request whose prompt the engine prefills; measured if the engine can begin now."""
        self._ids.add(request_id)
        self._begun(request_id)
        self._not_begun[request_id] = tokens
        self._queued_tokens += tokens
        if measured_from_s is not None:
            self._meter.sent(request_id, tokens, measured_from_s)

    def forget(self, request_id: str) -> bool:
        """Remove an aborted request, whose entry the engine will release. False if it is absent."""
        if request_id not in self._ids:
            return False
        self._ids.discard(request_id)
        self._begun(request_id)
        self._meter.forget({request_id})
        return True

    def give_up(self, request_id: str) -> None:
        """Remove a failed request, which the engine may never have received."""
        self.forget(request_id)
        self._release_unread(request_id)

    def begin(self, request_id: str, now_s: float) -> None:
        """Record that the engine has computed a prompt. Loaded requests are ignored."""
        self._meter.first_output(request_id, now_s)
        self._begun(request_id)

    def end(self, request_id: str, ending: Ending, now_s: float) -> None:
        """Record a request's last output."""
        if ending is Ending.REJECTED:
            self._release_unread(request_id)
        if ending is Ending.FINISHED:
            self._meter.first_output(request_id, now_s)
        else:
            self._meter.forget({request_id})
        self._begun(request_id)
        self._ids.discard(request_id)

    def load(self, request_id: str) -> None:
        """Record that the engine loads a request's entry. Requests given up are ignored."""
        key = self._claims.get(request_id)
        if key is not None:
            self._loading.add(request_id)
            self._ledger.load(key)

    def release(self, request_id: str) -> None:
        """Record that the engine has loaded a request's entry or will not load it.

        Requests given up are ignored.
        """
        key = self._claims.get(request_id)
        if key is not None:
            self._loading.discard(request_id)
            self._release(request_id, key)

    def _begun(self, request_id: str) -> None:
        self._queued_tokens -= self._not_begun.pop(request_id, 0)

    def _release_unread(self, request_id: str) -> None:
        """Release the entry of a failed request, unless the engine is loading it.

        The engine reports the end of a load. It reports nothing of a request that it rejects before
        its scheduler has it, or that never reaches it.
        """
        key = self._claims.get(request_id)
        if key is not None and request_id not in self._loading:
            self._release(request_id, key)

    def _release(self, request_id: str, key: str) -> None:
        self._ledger.release(key)
        del self._claims[request_id]
