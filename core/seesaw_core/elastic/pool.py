"""The books of one KV pool that spans all instances, one token at a time.

Any free slot of any instance serves any token. The pool counts tokens; which slot of an instance
holds which token is for whoever owns the memory.

Source: Wu et al., LoongServe (arXiv 2404.09526), section 4, the unified distributed KV pool.
"""

from collections.abc import Mapping, Sequence

from seesaw_core.elastic.placement import Placement, TokenRun
from seesaw_core.errors import BufferFullError, IntegrityError


class _Held:
    """The runs of one request, of which the last grows in place: one token an iteration."""

    __slots__ = ("counts", "last", "runs")

    def __init__(self, placement: Placement) -> None:
        self.counts = placement.tokens_by_instance()
        self.runs = list(placement.runs[:-1])
        last = placement.runs[-1]
        self.last = [last.instance, last.start, last.stop]

    def placement(self) -> Placement:
        instance, start, stop = self.last
        return Placement((*self.runs, TokenRun(instance=instance, start=start, stop=stop)))

    def append(self, instance: int) -> None:
        last = self.last
        if last[0] == instance:
            last[2] += 1
        else:
            self.runs.append(TokenRun(instance=last[0], start=last[1], stop=last[2]))
            self.last = [instance, last[2], last[2] + 1]
        self.counts[instance] = self.counts.get(instance, 0) + 1


class TokenPool:
    """Accounts for ``capacity_tokens`` of each instance.

    Invariant: on each instance, free plus the tokens of all placements is its capacity.
    ``migrated_tokens`` counts the tokens whose KV has been moved, ever.
    """

    def __init__(self, capacity_tokens: Sequence[int]) -> None:
        self.capacity_tokens = tuple(capacity_tokens)
        self.migrated_tokens = 0
        self._free = list(capacity_tokens)
        self._held: dict[str, _Held] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._held

    def __len__(self) -> int:
        return len(self._held)

    @property
    def free_tokens(self) -> tuple[int, ...]:
        """[instances] tokens that each has room for."""
        return tuple(self._free)

    def placement(self, key: str) -> Placement:
        """Raises: IntegrityError if the pool holds nothing of that request."""
        return self._holding(key).placement()

    def tokens_by_instance(self, key: str) -> Mapping[int, int]:
        """How many tokens each instance holds, kept up to date until the request moves or leaves.

        Raises: IntegrityError if the pool holds nothing of that request.
        """
        return self._holding(key).counts

    def _holding(self, key: str) -> _Held:
        try:
            return self._held[key]
        except KeyError:
            raise IntegrityError(f"the pool holds no KV of request {key!r}") from None

    def retain(self, key: str, placement: Placement) -> None:
        """Take room for a prompt that is about to be prefilled.

        Raises: BufferFullError if an instance lacks room; IntegrityError if ``key`` is in use.
        """
        if key in self._held:
            raise IntegrityError(f"the pool holds KV of request {key!r} already")
        self._take(placement.tokens_by_instance())
        self._held[key] = _Held(placement)

    def append(self, key: str, instance: int) -> None:
        """Take room for a request's next token on its master.

        Raises: BufferFullError if the instance is full; IntegrityError for an unknown request.
        """
        held = self._holding(key)
        if not self._free[instance]:
            self._take({instance: 1})
        self._free[instance] -= 1
        held.append(instance)

    def retract(self, key: str) -> None:
        """Give back the room of a request's last token, which an iteration has failed to compute.

        Raises: IntegrityError for an unknown request.
        """
        placement = self.placement(key)
        self._free[placement.runs[-1].instance] += 1
        self._held[key] = _Held(placement.without_last())

    def close(self, instance: int) -> None:
        """Take an instance out of the pool for good.

        Raises: IntegrityError if a request still has KV on it.
        """
        if self._free[instance] != self.capacity_tokens[instance]:
            raise IntegrityError(f"instance {instance} still holds KV")
        self._free[instance] = 0
        capacity = list(self.capacity_tokens)
        capacity[instance] = 0
        self.capacity_tokens = tuple(capacity)

    def migrate(self, key: str, source: int, target: int) -> int:
        """Move all of a request's KV on one instance to another; return how many tokens moved.

        Raises: BufferFullError if the target lacks room; IntegrityError for an unknown request.
        """
        placement = self.placement(key)
        moved = placement.tokens_by_instance().get(source, 0) if source != target else 0
        if moved:
            self._take({target: moved})
            self._free[source] += moved
            self._held[key] = _Held(placement.with_migrated(source, target))
            self.migrated_tokens += moved
        return moved

    def release(self, key: str) -> None:
        """Give all of a request's room back. Raises: IntegrityError for an unknown request."""
        for instance, num_tokens in self._holding(key).counts.items():
            self._free[instance] += num_tokens
        del self._held[key]

    def _take(self, tokens_by_instance: dict[int, int]) -> None:
        for instance, num_tokens in tokens_by_instance.items():
            if num_tokens > self._free[instance]:
                raise BufferFullError(
                    f"instance {instance} has {self._free[instance]:,} free tokens of KV, "
                    f"not {num_tokens:,}"
                )
        for instance, num_tokens in tokens_by_instance.items():
            self._free[instance] -= num_tokens
