"""Contexts whose KV stays in the pool after their requests, for prompts that begin alike.

A cached context has a key of its own, the placement of its tokens and the hashes of its blocks. A
block's hash covers all tokens up to its end and whatever else its KV depends on, so equal hashes
are equal prefixes, and whoever holds a block holds all before it.

Cached tokens count as free wherever the manager looks, since they give way to tokens that need the
room: contexts that nobody has used for longest are cut first, from their ends. So the cache makes
no request wait, and its contents are never more than the free room of the pool.

The cache knows how many tokens of which context lie where; which slots they are is for whoever owns
the memory, who reads :meth:`ContextCache.take_changes`.

Source: Kwon et al., vLLM (arXiv 2309.06180), automatic prefix caching.
Deviation: whole contexts rather than shared blocks. A prompt that reuses a prefix copies it, or
takes the context over, so that each token in the pool has one owner and may lie on any instance.
"""

from bisect import bisect_left
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from seesaw_core.elastic.placement import Placement
from seesaw_core.elastic.view import CachedPrefix
from seesaw_core.errors import IntegrityError

_MOST_CONTEXTS = 10_000
# Of the contexts that share a prefix, how many are looked at for one that lies where it is of use.
_MOST_LOOKED_AT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A request's first tokens, those of ``placement``, stay as the context ``key``.

    On each instance they are the first that it has taken for the request.
    """

    request: str
    key: str
    placement: Placement


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Of a context only ``placement`` is left; nothing if that is empty."""

    key: str
    placement: Placement


CacheChange = Kept | Cut


@dataclass(slots=True, kw_only=True)
class CacheCounts:
    """What has happened so far. Units: tokens, or as named.

    ``queries`` are the tokens of prompts that might have been cached, ``hits`` those that were;
    both without requests that were prefilled again, which the ``again_`` figures count.
    ``num_evicted`` contexts have given way as a whole, ``evicted_tokens`` in all.
    """

    num_requests: int = 0
    queries: int = 0
    hits: int = 0
    again_requests: int = 0
    again_queries: int = 0
    again_hits: int = 0
    num_evicted: int = 0
    evicted_tokens: int = 0

    def record(self, num_tokens: int, num_hits: int, *, is_again: bool) -> None:
        """Count a prompt that is prefilled now."""
        if is_again:
            self.again_requests += 1
            self.again_queries += num_tokens
            self.again_hits += num_hits
        else:
            self.num_requests += 1
            self.queries += num_tokens
            self.hits += num_hits


@dataclass(slots=True, kw_only=True)
class _Context:
    """``prefix`` is the one that was asked for last; many prompts ask for the same."""

    key: str
    placement: Placement
    blocks: tuple[Hashable, ...]
    prefix: CachedPrefix | None = None


class ContextCache:
    """The cached contexts over ``num_instances``, in blocks of ``block_tokens``.

    Without ``block_tokens`` nothing is kept. ``version`` changes whenever prefixes come or go.
    Invariant: ``tokens`` are those of all contexts, by instance.
    """

    def __init__(
        self, num_instances: int, block_tokens: int, *, most_contexts: int = _MOST_CONTEXTS
    ) -> None:
        self.block_tokens = block_tokens
        self.version = 0
        self.counts = CacheCounts()
        self._most_contexts = most_contexts
        self._num_kept = 0
        self._tokens = [0] * num_instances
        self._contexts: dict[str, _Context] = {}  # the least recently used first, as in _on
        self._on: list[dict[str, _Context]] = [{} for _ in range(num_instances)]
        self._with_block: dict[Hashable, dict[str, _Context]] = {}
        self._changes: list[CacheChange] = []

    def __len__(self) -> int:
        """Contexts."""
        return len(self._contexts)

    @property
    def tokens(self) -> tuple[int, ...]:
        """[instances] cached tokens."""
        return tuple(self._tokens)

    @property
    def num_blocks(self) -> int:
        """Blocks that are remembered, each once."""
        return len(self._with_block)

    def take_changes(self) -> tuple[CacheChange, ...]:
        """Return what has changed since the last call, in order. To be done before later steps."""
        changes = tuple(self._changes)
        self._changes.clear()
        return changes

    def find(self, blocks: Sequence[Hashable], most_tokens: int) -> tuple[CachedPrefix, ...]:
        """Return the longest cached prefix of at most ``most_tokens``: each place where it lies.

        blocks: hashes of the first blocks of a prompt. The newest context's comes first.
        """
        if not self._contexts or not blocks:
            return ()
        stop = min(len(blocks), most_tokens // self.block_tokens)
        is_missing = self._is_missing
        num_blocks = bisect_left(range(stop), True, key=lambda n: is_missing(blocks[n]))
        if not num_blocks:
            return ()
        places: dict[frozenset[int], CachedPrefix] = {}
        contexts = reversed(self._with_block[blocks[num_blocks - 1]].values())
        for context, _ in zip(contexts, range(_MOST_LOOKED_AT), strict=False):
            prefix = self._prefix(context, num_blocks)
            places.setdefault(prefix.holders, prefix)
        return tuple(places.values())

    def keep(self, request: str, blocks: Sequence[Hashable], placement: Placement) -> None:
        """Keep a request's whole blocks, if they are more than what is cached already.

        Requires: the pool has released the request, and its slots are in the order of its tokens.
        """
        if not self.block_tokens:
            return
        num_blocks = min(len(blocks), placement.num_tokens // self.block_tokens)
        if not num_blocks:
            return
        last = blocks[num_blocks - 1]
        if not self._is_missing(last):
            self._touch(next(reversed(self._with_block[last].values())))
            return
        self._drop_beginnings(blocks[:num_blocks])
        self._num_kept += 1
        context = _Context(
            key=f"cache:{self._num_kept}",
            placement=placement.prefix(num_blocks * self.block_tokens),
            blocks=tuple(blocks[:num_blocks]),
        )
        self._add(context)
        self._changes.append(Kept(request=request, key=context.key, placement=context.placement))
        if len(self._contexts) > self._most_contexts:
            self._evict(next(iter(self._contexts.values())), 0)

    def settle(self, free_tokens: Sequence[int], uses: Mapping[str, CachedPrefix]) -> set[str]:
        """Make room for a plan, and let prompts use prefixes. Return those that take over.

        free_tokens: [instances] of the pool after the plan, cached tokens among them. uses: by
        request. A context is taken over by the last of the requests that use most of it, if there
        is no room to leave it; all others copy.
        Raises: IntegrityError for a prefix that is not there.
        """
        users: dict[str, str] = {}
        for request, prefix in uses.items():
            context = self._contexts.get(prefix.source)
            if context is None or context.placement.num_tokens < prefix.num_tokens:
                raise IntegrityError(f"request {request!r} uses a prefix that is not cached")
            self._touch(context)
            user = users.setdefault(prefix.source, request)
            if prefix.num_tokens >= uses[user].num_tokens:
                users[prefix.source] = request
        floors = {source: uses[user].num_tokens for source, user in users.items()}
        for instance, free in enumerate(free_tokens):
            self._make_room(instance, free, floors)
        takers = set()
        for source, user in users.items():
            context = self._contexts[source]  # if it is in the way, it has been cut to what is used
            if any(self._tokens[i] > free_tokens[i] for i in context.placement.holders):
                self._remove(context, 0)
                takers.add(user)
        return takers

    def lose(self, instance: int) -> None:
        """An instance is gone, with all that lies on it."""
        for context in list(self._on[instance].values()):
            first = next(r.start for r in context.placement.runs if r.instance == instance)
            self._cut(context, first)

    def clear(self) -> None:
        """Drop all contexts."""
        for context in list(self._contexts.values()):
            self._cut(context, 0)

    def _is_missing(self, block: Hashable) -> bool:
        return block not in self._with_block

    def _prefix(self, context: _Context, num_blocks: int) -> CachedPrefix:
        num_tokens = num_blocks * self.block_tokens
        if context.prefix is None or context.prefix.num_tokens != num_tokens:
            placement = context.placement.prefix(num_tokens)
            context.prefix = CachedPrefix(source=context.key, placement=placement)
        return context.prefix

    def _drop_beginnings(self, blocks: Sequence[Hashable]) -> None:
        """Drop contexts that a new one contains: those that end with a block of it."""
        for number, block in enumerate(blocks, 1):
            contexts = self._with_block.get(block, {})
            if len(contexts) == 1:  # if one ended here and others went on, it would be in them
                (context,) = contexts.values()
                if len(context.blocks) == number:
                    self._cut(context, 0)

    def _make_room(self, instance: int, free_tokens: int, floors: Mapping[str, int]) -> None:
        """Cut contexts on an instance until they fit into its free tokens.

        floors: tokens that stay of contexts in use, whatever room there is.
        """
        if self._tokens[instance] <= free_tokens:
            return
        for context in list(self._on[instance].values()):
            wanted = self._tokens[instance] - free_tokens
            if wanted <= 0:
                return
            left = _tokens_before(context.placement, instance, wanted)
            floor = floors.get(context.key, 0)
            self._evict(context, max(left, floor), is_used=floor > 0)

    def _evict(self, context: _Context, num_tokens: int, *, is_used: bool = False) -> None:
        before = context.placement.num_tokens
        self._cut(context, num_tokens, is_used=is_used)
        self.counts.evicted_tokens += before - context.placement.num_tokens
        self.counts.num_evicted += not context.blocks

    def _cut(self, context: _Context, num_tokens: int, *, is_used: bool = False) -> None:
        """Cut a context to its whole blocks within so many tokens.

        Nothing is left of one that another contains then, unless it is in use.
        """
        num_blocks = num_tokens // self.block_tokens
        if num_blocks == len(context.blocks):
            return
        if num_blocks and not is_used and len(self._with_block[context.blocks[num_blocks - 1]]) > 1:
            num_blocks = 0
        self._remove(context, num_blocks)
        self._changes.append(Cut(key=context.key, placement=context.placement))

    def _add(self, context: _Context) -> None:
        self.version += 1
        self._contexts[context.key] = context
        for instance, num_tokens in context.placement.tokens_by_instance().items():
            self._tokens[instance] += num_tokens
            self._on[instance][context.key] = context
        for block in context.blocks:
            self._with_block.setdefault(block, {})[context.key] = context

    def _remove(self, context: _Context, num_blocks: int) -> None:
        """Take all but the first blocks of a context out of the books."""
        self.version += 1
        for block in context.blocks[num_blocks:]:
            contexts = self._with_block[block]
            del contexts[context.key]
            if not contexts:
                del self._with_block[block]
        placement = context.placement.prefix(num_blocks * self.block_tokens)
        left = placement.tokens_by_instance()
        for instance, num_tokens in context.placement.tokens_by_instance().items():
            self._tokens[instance] -= num_tokens - left.get(instance, 0)
            if instance not in left:
                del self._on[instance][context.key]
        if not num_blocks:
            del self._contexts[context.key]
        context.blocks, context.placement = context.blocks[:num_blocks], placement
        context.prefix = None

    def _touch(self, context: _Context) -> None:
        """Make a context the one that was used last."""
        for contexts in (self._contexts, *(self._on[i] for i in context.placement.holders)):
            contexts[context.key] = contexts.pop(context.key)


def _tokens_before(placement: Placement, instance: int, wanted: int) -> int:
    """Return how many tokens may stay so that an instance loses as many as are wanted of it, or all
    that it has."""
    start = placement.num_tokens
    for run in reversed(placement.runs):
        if run.instance == instance:
            start = max(run.start, run.stop - wanted)
            wanted -= run.stop - start
            if not wanted:
                break
    return start
