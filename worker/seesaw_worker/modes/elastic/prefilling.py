"""Prefill in passes: no pass computes more tokens on an instance than vLLM has made room for.

A prompt that is longer continues in the next pass, where its first tokens are as good as cached.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from seesaw_worker.modes.elastic.iteration import RingPrompt, stripe
from seesaw_worker.modes.elastic.slots import Context
from seesaw_worker.modes.elastic.tasks import PromptRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Tokens ``[start, stop)`` of a prompt, as one instance of a ring of ``size`` sees them."""

    row: PromptRow
    start: int
    stop: int
    place: int
    size: int

    @property
    def is_last(self) -> bool:
        return self.stop == self.row.length

    @property
    def positions(self) -> range:
        """Of the tokens that the instance computes."""
        return range(self.start + self.place, self.stop, self.size)

    @property
    def token_ids(self) -> list[int]:
        first = (self.start - self.row.num_cached) // self.size
        return self.row.token_ids[first : first + len(self.positions)]

    def num_before(self, instance: int) -> int:
        """Return the tokens before these whose KV an instance holds."""
        runs = (run for run in self.row.runs if run.instance == instance and run.start < self.start)
        kept = sum(min(run.stop, self.start) - run.start for run in runs)
        return self.row.cached.get(instance, 0) + kept

    def ring_prompt(
        self, ring: Sequence[int], context: Context, device: torch.device
    ) -> RingPrompt:
        """Return what ring attention must know. ``context`` has slots for the whole prompt."""
        instance = ring[self.place]
        before = self.num_before(instance)
        slots, keeps = context.tensor().to(device), []
        at = self.row.cached.get(instance, 0)
        for run in self.row.runs:
            if run.instance != instance:
                continue
            first, stop = max(run.start, self.start), min(run.stop, self.stop)
            if first < stop:
                offset = at + first - run.start
                own = slots[offset : offset + stop - first]
                keeps.append((first - self.start, stop - self.start, own))
            at += len(run)
        return RingPrompt(
            length=self.stop - self.start,
            keeps=tuple(keeps),
            cached=tuple(self.num_before(other) for other in ring),
            cached_slots=slots[:before] if before else None,
        )


def passes(
    rows: Sequence[PromptRow], place: int, size: int, most_tokens: int
) -> Iterator[list[Piece]]:
    """Yield the pieces of each pass, at most ``most_tokens`` on each instance.

    A piece begins where a stripe does, so an instance computes the same tokens in any division.
    """
    pieces: list[Piece] = []
    left = most_tokens
    for row in rows:
        start = row.num_cached
        while start < row.length:
            if not left:
                yield pieces
                pieces, left = [], most_tokens
            stop = min(row.length, start + left * size)
            pieces.append(Piece(row=row, start=start, stop=stop, place=place, size=size))
            left -= len(stripe(stop - start, 0, size))
            start = stop
    yield pieces
