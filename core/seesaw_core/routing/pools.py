"""The pools of elastic workers, as the router sees them: where would a prompt start soonest?

An elastic worker takes prompts at any time. It starts one once the prompts before it have been
computed, and once the pool has room for its KV. So the work before a prompt is counted in tokens
for each instance, and a pool without room for it as if all that it can hold came first, since
requests must end before there is any.

A worker describes itself, and may be wrong or its state old. So the requests that the router has
sent there count too, and a worker that claims to be idle for ever gets little more than others.

Pure. Deviation: LoongServe (arXiv 2404.09526) has one pool; the choice among several is ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

# Tokens of work for which a running request counts, since it slows down the decoding of others.
# From 100 to 3,000 the time to the first token hardly changes (``test_elastic_routing.py``).
_RUNNING_TOKENS = 300
# Sums of what a worker claims are cut here, so that any reader can take what the router reports.
_MOST_TOKENS = 1 << 53


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The pool of one elastic worker. Units: tokens.

    num_instances: those that are not lost.
    queued_tokens: of prompts that no group has begun, those on their way to the worker included.
    prefilling_tokens: of prompts that groups compute at the moment.
    """

    num_instances: int
    capacity_tokens: int
    free_tokens: int
    queued_tokens: int = 0
    prefilling_tokens: int = 0

    @classmethod
    def reported(
        cls,
        *,
        capacity_tokens: Sequence[int],
        free_tokens: Sequence[int],
        queued_tokens: int,
        prefilling_tokens: int,
    ) -> "Pool | None":
        """Return the pool that a worker reports, instance by instance; None while it has none."""
        instances = list(zip(capacity_tokens, free_tokens, strict=False))
        num_instances = sum(capacity > 0 for capacity, _ in instances)
        if not num_instances:
            return None
        return cls(
            num_instances=num_instances,
            capacity_tokens=_bounded(sum(capacity for capacity, _ in instances)),
            free_tokens=_bounded(sum(min(free, capacity) for capacity, free in instances)),
            queued_tokens=_bounded(queued_tokens),
            prefilling_tokens=_bounded(prefilling_tokens),
        )

    @property
    def room_tokens(self) -> int:
        """Free tokens, less those of prompts that come first."""
        return max(0, self.free_tokens - self.queued_tokens)

    def may_hold(self, prompt_tokens: int) -> bool:
        """Whether the pool is large enough for a prompt once it is empty."""
        return prompt_tokens <= self.capacity_tokens

    def tokens_before(self, prompt_tokens: int, num_running: int) -> float:
        """Return the work before a prompt that comes now, in tokens for each instance.

        ``num_running``: the requests that were sent to the worker and have not ended.
        """
        work = self.queued_tokens + self.prefilling_tokens + _RUNNING_TOKENS * num_running
        lacking = prompt_tokens - self.room_tokens
        if lacking > 0:
            work += self.capacity_tokens + lacking
        return work / self.num_instances


def _bounded(tokens: int) -> int:
    return min(_MOST_TOKENS, tokens)
