"""The decode engine's share of the books: who is in it, and what they still hold.

A request is here from when it is sent until its last output or its abort. One that came through
the buffer holds an entry until the engine has loaded it, or will not; one in place holds room in
the engine's queue until its first output. Knows no engine.
"""

from collections.abc import Callable
from typing import Any

from seesaw_core.resharding.ledger import Ledger
from seesaw_worker.modes.resharding import requests
from seesaw_worker.modes.resharding.handover import DecodeRoom
from seesaw_worker.modes.resharding.kv.transfer import Progress
from seesaw_worker.modes.resharding.meters import InPlaceMeter


class InDecode:
    """Requests inside the decode engine."""

    def __init__(
        self, ledger: Ledger, room: DecodeRoom, meter: InPlaceMeter, clock: Callable[[], float]
    ) -> None:
        self._ledger, self._room, self._meter, self._now = ledger, room, meter, clock
        self._ids: set[str] = set()
        self._not_begun: dict[str, int] = {}  # prompt tokens of those in place without output yet
        self._queued_tokens = 0  # all of theirs
        self._claims: dict[str, str] = {}  # buffer entries by the request that will load them
        self._loading: set[str] = set()

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def has_room(self) -> bool:
        """Whether the engine could begin another prompt soon."""
        return self._room.is_left(len(self._ids), self._queued_tokens)

    def expect_loading(self, request_id: str, key: str) -> None:
        """A request comes that loads entry ``key``, and owes its release."""
        self._claims[request_id] = key
        self._ids.add(request_id)

    def expect_in_place(self, request: Any, *, measured: bool) -> None:
        """A request comes with its prompt to prefill; ``measured`` if the engine may begin."""
        tokens = requests.num_prompt_tokens(request)
        self._ids.add(request.request_id)
        self._begun(request.request_id)
        self._not_begun[request.request_id] = tokens
        self._queued_tokens += tokens
        if measured:
            self._meter.sent(request.request_id, tokens, self._now())

    def forget(self, request_id: str) -> bool:
        """Take an aborted request out; the engine will release its entry. False if not here."""
        if request_id not in self._ids:
            return False
        self._ids.discard(request_id)
        self._begun(request_id)
        self._meter.forget({request_id})
        return True

    def give_up(self, request_id: str) -> bool:
        """Take a request out that failed; the engine may never have seen it. False if not here."""
        was_here = self.forget(request_id)
        self._release_unread(request_id)
        return was_here

    def observe_output(self, output: Any) -> None:
        """Look at one of the engine's outputs on its way to the front end."""
        request_id = output.request_id
        if requests.is_rejected(output):
            self._release_unread(request_id)
        if requests.is_cut_short(output):
            self._meter.forget({request_id})
            self._begun(request_id)
        elif output.new_token_ids or output.finish_reason is not None:
            self._meter.first_output(request_id, self._now())
            self._begun(request_id)
        if output.finish_reason is not None:
            self._ids.discard(request_id)

    def observe_progress(self, progress: Progress, request_id: str) -> None:
        """Follow a buffer entry through the engine. What was given up is over already."""
        key = self._claims.get(request_id)
        if key is None:
            return
        if progress is Progress.LOADING:
            self._loading.add(request_id)
            self._ledger.load(key)
        else:
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
