"""The decode engine's share of the books: who is in it, and what they still hold.

A request is here from when it is sent until its last output or its abort. One that came through
the buffer holds an entry until the engine has loaded it, or will not; one in place holds room in
the engine's queue until its first output.
"""

from dataclasses import dataclass

from seesaw_core.resharding.events import Ending
from seesaw_core.resharding.ledger import Ledger
from seesaw_core.resharding.meters import InPlaceMeter

_QUEUED_STEPS = 2  # the step under way and the next one are full; other prompts may join a wave


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeRoom:
    """What the decode engine takes at a time: requests, and prompt tokens that wait inside it.

    Prompts that it has not begun, for want of steps or of room in its KV pool, could still have
    made a wave; it needs only enough of them to fill its next steps.
    """

    num_requests: int
    num_queued_tokens: int

    @classmethod
    def of(cls, *, num_requests: int, step_tokens: int) -> "DecodeRoom":
        """Room of an engine that computes ``step_tokens`` tokens of prompts in a step."""
        return cls(num_requests=num_requests, num_queued_tokens=_QUEUED_STEPS * step_tokens)

    def is_left(self, num_running: int, queued_tokens: int) -> bool:
        return num_running < self.num_requests and queued_tokens < self.num_queued_tokens


class InDecode:
    """Requests inside the decode engine."""

    def __init__(self, ledger: Ledger, room: DecodeRoom, meter: InPlaceMeter) -> None:
        self._ledger, self._room, self._meter = ledger, room, meter
        self._ids: set[str] = set()
        self._not_begun: dict[str, int] = {}  # prompt tokens of those in place without output yet
        self._queued_tokens = 0  # all of theirs
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
        """Whether a request went in place and its first output is yet to come."""
        return request_id in self._not_begun

    def expect_loading(self, request_id: str, key: str) -> None:
        """A request comes that loads entry ``key``, and owes its release."""
        self._claims[request_id] = key
        self._ids.add(request_id)

    def expect_in_place(self, request_id: str, tokens: int, measured_from_s: float | None) -> None:
        """A request comes with its prompt to prefill, which is measured if the engine may begin."""
        self._ids.add(request_id)
        self._begun(request_id)
        self._not_begun[request_id] = tokens
        self._queued_tokens += tokens
        if measured_from_s is not None:
            self._meter.sent(request_id, tokens, measured_from_s)

    def forget(self, request_id: str) -> bool:
        """Take an aborted request out; the engine will release its entry. False if not here."""
        if request_id not in self._ids:
            return False
        self._ids.discard(request_id)
        self._begun(request_id)
        self._meter.forget({request_id})
        return True

    def give_up(self, request_id: str) -> None:
        """Take a request out that failed; the engine may never have seen it."""
        self.forget(request_id)
        self._release_unread(request_id)

    def begin(self, request_id: str, now_s: float) -> None:
        """The engine has computed a request's prompt. Those that were loaded are ignored."""
        self._meter.first_output(request_id, now_s)
        self._begun(request_id)

    def end(self, request_id: str, ending: Ending, now_s: float) -> None:
        """A request's last output has come."""
        if ending is Ending.REJECTED:
            self._release_unread(request_id)
        if ending is Ending.FINISHED:
            self._meter.first_output(request_id, now_s)
        else:
            self._meter.forget({request_id})
        self._begun(request_id)
        self._ids.discard(request_id)

    def load(self, request_id: str) -> None:
        """The engine loads a request's entry. What was given up is over already."""
        key = self._claims.get(request_id)
        if key is not None:
            self._loading.add(request_id)
            self._ledger.load(key)

    def release(self, request_id: str) -> None:
        """The engine has loaded a request's entry, or will not. The same holds of what is over."""
        key = self._claims.get(request_id)
        if key is not None:
            self._loading.discard(request_id)
            self._release(request_id, key)

    def _begun(self, request_id: str) -> None:
        self._queued_tokens -= self._not_begun.pop(request_id, 0)

    def _release_unread(self, request_id: str) -> None:
        """Release for a request that ended in an error, unless the engine is loading its KV.

        The engine will tell when that load has ended. Of a request that it rejects before its
        scheduler has seen it, or that never reached it, it tells nothing.
        """
        key = self._claims.get(request_id)
        if key is not None and request_id not in self._loading:
            self._release(request_id, key)

    def _release(self, request_id: str, key: str) -> None:
        self._ledger.release(key)
        del self._claims[request_id]
