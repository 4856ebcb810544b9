"""Where the KV of a request's tokens lies: runs of consecutive tokens over instances.

Any token may lie on any instance, since attention over parts of a context can be merged. Three
decisions change a placement. Retaining and appending move nothing: an instance keeps tokens that
pass by in ring attention, and the master of a request keeps the token that it has just computed.
Only a migration moves KV.

Source: Wu et al., LoongServe (arXiv 2404.09526), sections 4.1 (proactive scale-down) and 4.2
(multi-master decoding).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from seesaw_core.errors import BufferFullError, IntegrityError


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRun:
    """The KV of tokens ``[start, stop)`` of a request lies on ``instance``."""

    instance: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Placement:
    """All runs of one request, in the order of its tokens.

    Raises: IntegrityError if a token is missing, or lies in two places.
    """

    runs: tuple[TokenRun, ...] = ()

    def __post_init__(self) -> None:
        end = 0
        for run in self.runs:
            if run.start != end or run.stop <= run.start:
                raise IntegrityError(f"a run of KV begins at token {run.start}, not at {end}")
            end = run.stop

    @property
    def num_tokens(self) -> int:
        return self.runs[-1].stop if self.runs else 0

    def tokens_by_instance(self) -> dict[int, int]:
        """How many tokens each instance holds; instances that hold none are left out."""
        counts: dict[int, int] = {}
        for run in self.runs:
            counts[run.instance] = counts.get(run.instance, 0) + len(run)
        return counts

    @property
    def holders(self) -> frozenset[int]:
        """The instances that hold any token."""
        return frozenset(run.instance for run in self.runs)

    def prefix(self, num_tokens: int) -> "Placement":
        """Return the placement of the first tokens. Requires: so many tokens, or more."""
        runs = []
        for run in self.runs:
            if run.stop >= num_tokens:
                if run.start < num_tokens:
                    runs.append(replace(run, stop=num_tokens))
                break
            runs.append(run)
        return Placement(tuple(runs))

    def followed_by(self, others: "Placement") -> "Placement":
        """Return the placement of these tokens and of others after them."""
        if not others.runs:
            return self
        first, *more = others.runs
        offset = self.num_tokens
        joined = self.with_appended(first.instance, len(first))
        shifted = (replace(r, start=r.start + offset, stop=r.stop + offset) for r in more)
        return Placement((*joined.runs, *shifted))

    def with_appended(self, instance: int, num_tokens: int = 1) -> "Placement":
        """Return the placement after ``instance`` has computed the next tokens and kept them."""
        start = self.num_tokens
        if self.runs and self.runs[-1].instance == instance:
            start = self.runs[-1].start
            kept = self.runs[:-1]
        else:
            kept = self.runs
        stop = self.num_tokens + num_tokens
        return Placement((*kept, TokenRun(instance=instance, start=start, stop=stop)))

    def without_last(self) -> "Placement":
        """Return the placement without its last token. Requires: a token."""
        *kept, last = self.runs
        if len(last) > 1:
            kept.append(TokenRun(instance=last.instance, start=last.start, stop=last.stop - 1))
        return Placement(tuple(kept))

    def with_migrated(self, source: int, target: int) -> "Placement":
        """Return the placement after ``target`` has got all that ``source`` holds."""
        moved = Placement()
        for run in self.runs:
            instance = target if run.instance == source else run.instance
            moved = moved.with_appended(instance, len(run))
        return moved


def retain(num_tokens: Sequence[int], free_tokens: Mapping[int, int]) -> tuple[Placement, ...]:
    """Place the prompts of a batch on the instances that keep them, filling one after the other.

    num_tokens: of each prompt. free_tokens: what each instance may take, in the order of filling.
    Raises: BufferFullError if the instances have too little room together.
    """
    left = [[instance, free] for instance, free in free_tokens.items() if free > 0]
    placements = []
    for wanted in num_tokens:
        placement = Placement()
        while placement.num_tokens < wanted:
            if not left:
                raise BufferFullError(
                    f"{sum(num_tokens):,} tokens do not fit into the "
                    f"{sum(free_tokens.values()):,} free tokens of {len(free_tokens)} instances"
                )
            instance, free = left[0]
            taken = min(free, wanted - placement.num_tokens)
            placement = placement.with_appended(instance, taken)
            left[0][1] -= taken
            if not left[0][1]:
                del left[0]
        placements.append(placement)
    return tuple(placements)
