"""What the driver remembers of one request."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from seesaw_core.elastic.view import CachedPrefix, Decoding


@dataclass(slots=True, kw_only=True)
class Request:
    """A request from its arrival to its end.

    Units: tokens, seconds. ``num_outputs`` counts tokens produced so far. ``cached`` was found in a
    version of the cache for a number of tokens, which are ``searched``.
    """

    key: str
    prompt_tokens: int
    arrived_s: float
    block_hashes: Sequence[Hashable] = ()
    num_outputs: int = 0
    may_stay: bool = True  # in the cache, once it has ended
    cached: tuple[CachedPrefix, ...] = ()
    searched: tuple[int, int] | None = None
    is_gone: bool = False  # its client has gone while an iteration computes it
    decoding: Decoding | None = None  # what the manager sees, until that changes

    @property
    def num_tokens(self) -> int:
        return self.prompt_tokens + self.num_outputs
