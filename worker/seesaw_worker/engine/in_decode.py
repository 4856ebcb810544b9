"""The decode engine's share of the controller's books: who is in it, and what they still hold.

A request is here from when it is sent until its last output or its abort. One that came through
the buffer holds an entry until the engine has loaded it; one in place holds room in the engine's
queue until its first output. Knows no engine.
"""

from collections.abc import Callable, Iterable
from typing import Any

from seesaw_core.ledger import Ledger
from seesaw_worker.engine import requests
from seesaw_worker.engine.handover import DecodeRoom
from seesaw_worker.engine.meters import InPlaceMeter
from seesaw_worker.kv.transfer import Progress


class InDecode:
    """Requests inside the decode engine."""

    def __init__(
        self, ledger: Ledger, room: DecodeRoom, meter: InPlaceMeter, clock: Callable[[], float]
    ) -> None:
        self._ledger, self._room, self._meter, self._now = ledger, room, meter, clock
        self._ids: set[str] = set()
        self._not_begun: dict[str, int] = {}  # prompt tokens of those in place without output yet
        self._claims: dict[str, str] = {}  # buffer entries by the request that will load them
        self._rejected: set[str] = set()

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._ids

    @property
    def has_room(self) -> bool:
        """Whether the engine could begin another prompt soon."""
        return self._room.is_left(len(self._ids), sum(self._not_begun.values()))

    def expect_loading(self, request_ids: Iterable[str]) -> None:
        """These come with their KV in the buffer; :meth:`claim` says when one is sent."""
        self._ids.update(request_ids)

    def claim(self, request_id: str, key: str) -> None:
        """A request is being sent that will load entry ``key``."""
        self._claims[request_id] = key

    def expect_in_place(self, batch: Iterable[Any]) -> None:
        """These come with their prompt to prefill."""
        for request in batch:
            self._ids.add(request.request_id)
            self._not_begun[request.request_id] = requests.num_prompt_tokens(request)

    def forget(self, request_ids: set[str]) -> set[str]:
        """Take aborted requests out. Returns those that were here."""
        here = request_ids & self._ids
        self._ids -= here
        for request_id in here:
            self._not_begun.pop(request_id, None)
        self._meter.forget(here)
        return here

    def observe_outputs(self, outputs: Iterable[Any]) -> None:
        """Look at the engine's outputs on their way to the front end."""
        for output in outputs:
            if requests.is_rejected(output):
                self._release_rejected(output.request_id)
            if requests.is_cut_short(output):
                self._meter.forget({output.request_id})
                self._not_begun.pop(output.request_id, None)
            elif output.new_token_ids or output.finish_reason is not None:
                self._meter.first_output(output.request_id, self._now())
                self._not_begun.pop(output.request_id, None)
            if output.finish_reason is not None:
                self._ids.discard(output.request_id)

    def observe_progress(self, progress: Progress, key: str, request_id: str) -> None:
        """Follow a buffer entry through the engine."""
        if progress is Progress.LOADING:
            self._ledger.load(key)
        elif request_id in self._rejected:
            self._rejected.discard(request_id)
        else:
            self._claims.pop(request_id, None)
            self._ledger.release(key)

    def _release_rejected(self, request_id: str) -> None:
        """Release for a request that ended in an error, which the engine may do too, or not.

        A request that the engine core rejects before its scheduler has seen it is never released
        there.
        """
        key = self._claims.pop(request_id, None)
        if key is not None:
            self._rejected.add(request_id)
            self._ledger.release(key)
