"""Groups of requests that share micro-batches; there are as many groups as pipeline stages."""

from seesaw_sim.sequences import Sequence


class Group:
    """Requests that share micro-batches. ``decoding`` is a heap by each request's last round."""

    __slots__ = ("chunk", "chunk_pairs", "context", "decoding", "num_decoding", "parts")

    def __init__(self) -> None:
        self.decoding: list[tuple[int, int, Sequence]] = []
        self.num_decoding = 0
        self.context = 0
        self.chunk = 0
        self.chunk_pairs = 0.0
        self.parts: list[tuple[Sequence, int]] = []

    def add(self, sequence: Sequence, tokens: int, before: int) -> None:
        """Add ``tokens`` of a prompt to the next micro-batch, ``before`` of which are computed."""
        self.parts.append((sequence, tokens))
        self.chunk += tokens
        self.chunk_pairs += tokens * (before + tokens / 2)


def is_current(entry: tuple[int, int, Sequence]) -> bool:
    """Return whether an entry is from after the last preemption of its request."""
    ends_round, _, sequence = entry
    return sequence.is_running and sequence.ends_round == ends_round
