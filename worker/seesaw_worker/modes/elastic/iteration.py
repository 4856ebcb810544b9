"""One iteration as each attention layer of one rank carries it out.

Prefill is striped ring attention: the instance at place m of a ring of n holds the tokens m, m + n,
m + 2n, … of each prompt, and KV goes round the ring. An instance keeps what it is to keep as it
passes by (proactive scale-down), so that nothing moves afterwards.

Decode is multi-master: a token's master computes it and keeps its KV. It sends the query to the
other instances that hold KV of the request; they answer with their part of the attention.

What one instance does alone is left to vLLM's own kernels, which read paged contexts in place.

Shapes: ``query`` [tokens, heads, size], ``key`` and ``value`` [tokens, KV heads, size].
Source: Wu et al., LoongServe (arXiv 2404.09526), sections 4.1 and 4.2.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from seesaw_worker.modes.elastic.kernels import Contexts, Part, attend, empty_part, merge
from seesaw_worker.modes.elastic.memory import KvMemory, PagedBatch
from seesaw_worker.modes.elastic.peers import Exchange, Peers, Purpose
from seesaw_worker.modes.elastic.slots import Context


class Iteration(Protocol):
    """What a layer does. ``output`` [tokens, heads, size] is written."""

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        memory: KvMemory,
        scale: float,
        output: torch.Tensor,
    ) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RingPrompt:
    """A prompt of which ``length`` tokens are computed.

    ``keeps`` are runs of them, each with the slots for its KV. All of them follow tokens that are
    cached, ``cached`` at each place of the ring; ours are in the slots of ``cached_slots``.
    """

    length: int
    keeps: tuple[tuple[int, int, torch.Tensor], ...]
    cached: tuple[int, ...] = ()
    cached_slots: torch.Tensor | None = None


def stripe(length: int, place: int, size: int) -> range:
    """Return the positions at a place of a ring of ``size``, of tokens that are computed."""
    return range(place, length, size)


class LocalPrefill:
    """Prompts that one instance prefills and keeps. Requires: their contexts are paged.

    computed: of each context, the tokens ``[start, stop)`` that are computed.
    """

    def __init__(
        self,
        contexts: Sequence[Context],
        computed: Sequence[tuple[int, int]],
        device: torch.device,
    ) -> None:
        self._batch = PagedBatch(computed, contexts, device)
        slots = [
            context.tensor()[start:stop]
            for context, (start, stop) in zip(contexts, computed, strict=True)
        ]
        self._slots = torch.cat(slots).to(device)

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        memory: KvMemory,
        scale: float,
        output: torch.Tensor,
    ) -> None:
        memory.write(self._slots, key, value)
        memory.attend(query, self._batch, scale, output)


class RingPrefill:
    """Striped ring attention. ``ring`` are the group's instances in order, ``place`` is ours."""

    def __init__(
        self, peers: Peers, ring: Sequence[int], place: int, prompts: Sequence[RingPrompt]
    ) -> None:
        self._peers, self._place, self._prompts = peers, place, prompts
        self._size = len(ring)
        cached = [prompt.cached_slots for prompt in prompts if prompt.cached_slots is not None]
        self._cached_slots = torch.cat(cached) if cached else None
        self._next, self._last = ring[(place + 1) % self._size], ring[place - 1]
        # Of each place: its stripes, and what it has cached of each prompt.
        self._counts = [
            [len(stripe(prompt.length, other, self._size)) for prompt in prompts]
            + [prompt.cached[other] if prompt.cached else 0 for prompt in prompts]
            for other in range(self._size)
        ]

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        memory: KvMemory,
        scale: float,
        output: torch.Tensor,
    ) -> None:
        passing = torch.stack([key, value], 1)
        if self._cached_slots is not None:
            passing = torch.cat([passing, memory.read(self._cached_slots)])
        number = len(self._prompts)
        queries = query.split(self._counts[self._place][:number])
        parts = [empty_part(q) for q in queries]
        for step in range(self._size):
            source = (self._place - step) % self._size
            following, exchange = passing, None
            if step + 1 < self._size:
                before = (source - 1) % self._size
                following = passing.new_empty(sum(self._counts[before]), *passing.shape[1:])
                exchange = self._peers.exchange(
                    Purpose.RING, {self._next: passing}, {self._last: following}
                )
            pieces = passing.split(self._counts[source])
            for index, prompt in enumerate(self._prompts):
                stripe_kv, cached = pieces[index], pieces[number + index]
                self._keep(prompt, stripe_kv, source, memory)
                part = self._attend_stripe(queries[index], stripe_kv, source, scale)
                parts[index] = merge(parts[index], part) if step else part
                if len(cached):
                    cached_key, cached_value = cached.unbind(1)
                    past = attend(queries[index], cached_key, cached_value, scale)
                    parts[index] = merge(parts[index], past)
            if exchange is not None:
                exchange.wait()
            passing = following
        torch.cat([part for part, _ in parts], out=output)

    def _attend_stripe(
        self, query: torch.Tensor, kv: torch.Tensor, source: int, scale: float
    ) -> Part:
        """Attend to another stripe. Of a later one, query i sees the keys before i alone."""
        key, value = kv.unbind(1)
        if source <= self._place:
            return attend(query, key, value, scale, is_causal=True)
        first = empty_part(query[:1])
        rest = attend(query[1:], key, value, scale, is_causal=True)
        return torch.cat([first[0], rest[0]]), torch.cat([first[1], rest[1]], dim=1)

    def _keep(self, prompt: RingPrompt, kv: torch.Tensor, source: int, memory: KvMemory) -> None:
        for start, stop, slots in prompt.keeps:
            first = max(0, -((source - start) // self._size))
            last = max(0, -((source - stop) // self._size))
            if last > first:
                position = source + first * self._size - start
                memory.write(slots[position :: self._size], *kv[first:last].unbind(1))


@dataclass(frozen=True, slots=True, kw_only=True)
class MasteredToken:
    """A token that we compute: the slot for its KV, all slots of its request here, who has more."""

    slot: torch.Tensor
    context: Context
    peers: tuple[int, ...]


class MultiMasterDecode:
    """``served`` are the contexts of the requests that another instance asks for, in its order."""

    def __init__(
        self,
        peers: Peers,
        tokens: Sequence[MasteredToken],
        served: Mapping[int, Sequence[Context]],
        device: torch.device,
    ) -> None:
        self._peers = peers
        local: list[int] = []
        spread: list[int] = []
        for row, token in enumerate(tokens):
            (spread if token.peers or not token.context.is_paged else local).append(row)
        contexts = [tokens[row].context for row in local]
        queries = [(len(context) - 1, len(context)) for context in contexts]
        self._batch = PagedBatch(queries, contexts, device) if local else None
        self._contexts = Contexts([tokens[row].context for row in spread], device)
        self._is_local = not spread and not served
        self._local = torch.tensor(local, dtype=torch.int64, device=device)
        self._spread = torch.tensor(spread, dtype=torch.int64, device=device)
        self._served = {peer: Contexts(contexts, device) for peer, contexts in served.items()}
        self._num_served = {peer: len(contexts) for peer, contexts in served.items()}
        self._asked: dict[int, list[int]] = {}  # rows among those that are spread
        for row, number in enumerate(spread):
            for peer in tokens[number].peers:
                self._asked.setdefault(peer, []).append(row)
        self._new_slots = torch.cat([t.slot for t in tokens]).to(device) if tokens else None

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        memory: KvMemory,
        scale: float,
        output: torch.Tensor,
    ) -> None:
        if self._new_slots is not None:
            memory.write(self._new_slots, key, value)
        if self._batch is not None and self._is_local:
            memory.attend(query, self._batch, scale, output)
            return
        spread = query[self._spread]
        asking, questions = self._ask(spread)
        if self._batch is not None:
            local = torch.empty_like(output[self._local])
            memory.attend(query[self._local], self._batch, scale, local)
            output[self._local] = local
        part = self._contexts.attend(spread, memory, scale)
        asking.wait()
        replies = {
            peer: _packed(contexts.attend(questions[peer], memory, scale))
            for peer, contexts in self._served.items()
        }
        _, num_heads, size = query.shape
        answers = {
            peer: query.new_empty(len(rows), num_heads, size + 1, dtype=torch.float32)
            for peer, rows in self._asked.items()
        }
        self._peers.exchange(Purpose.REPLY, replies, answers).wait()
        for peer, rows in self._asked.items():
            own = part[0][rows], part[1][:, rows]
            part[0][rows], part[1][:, rows] = merge(own, _unpacked(answers[peer], query.dtype))
        output[self._spread] = part[0]

    def _ask(self, spread: torch.Tensor) -> tuple[Exchange, dict[int, torch.Tensor]]:
        """Send queries to those who hold more of their contexts, while theirs come in."""
        questions = {
            peer: spread.new_empty(number, *spread.shape[1:])
            for peer, number in self._num_served.items()
        }
        asked = {peer: spread[rows] for peer, rows in self._asked.items()}
        return self._peers.exchange(Purpose.QUERY, asked, questions), questions


def _packed(part: Part) -> torch.Tensor:
    """Return [queries, heads, size + 1]: outputs, and the LSE behind each."""
    output, lse = part
    return torch.cat([output.float(), lse.t()[..., None]], -1)


def _unpacked(packed: torch.Tensor, dtype: torch.dtype) -> Part:
    output, lse = packed[..., :-1], packed[..., -1]
    return output.to(dtype), lse.t()
