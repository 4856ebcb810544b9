"""Ring prefill and multi-master decode over any group give the attention over the whole context.

Instances are threads here, and their peers hand tensors over in memory.
"""

import queue
import random
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from seesaw_worker.modes.elastic.iteration import (
    Iteration,
    LocalPrefill,
    MasteredToken,
    MultiMasterDecode,
    RingPrefill,
    RingPrompt,
    stripe,
)
from seesaw_worker.modes.elastic.kernels import attend, merge
from seesaw_worker.modes.elastic.memory import CpuMemory
from seesaw_worker.modes.elastic.peers import Purpose
from seesaw_worker.modes.elastic.slots import Context, SlotTable

HEADS, KV_HEADS, SIZE, SCALE = 8, 2, 32, 0.25
BLOCK = 32
CPU = torch.device("cpu")


class Post:
    """Queues between all instances."""

    def __init__(self) -> None:
        self._queues: dict[tuple[int, int, Purpose], queue.Queue[torch.Tensor]] = {}

    def between(self, source: int, target: int, purpose: Purpose) -> "queue.Queue[torch.Tensor]":
        return self._queues.setdefault((source, target, purpose), queue.Queue())


class MemoryPeers:
    def __init__(self, number: int, post: Post) -> None:
        self.sent_bytes = dict.fromkeys(Purpose, 0)
        self._number, self._post = number, post

    def connect(self, others: Iterable[int], rendezvous: Path) -> None: ...
    def drop(self, others: Iterable[int]) -> None: ...

    def exchange(
        self,
        purpose: Purpose,
        sends: Mapping[int, torch.Tensor],
        receives: Mapping[int, torch.Tensor],
    ) -> "Arrival":
        for peer, tensor in sends.items():
            if tensor.numel():
                self._post.between(self._number, peer, purpose).put(tensor.clone())
                self.sent_bytes[purpose] += tensor.numel() * tensor.element_size()
        return Arrival(self._post, self._number, purpose, receives)


class Arrival:
    def __init__(
        self, post: Post, number: int, purpose: Purpose, receives: Mapping[int, torch.Tensor]
    ) -> None:
        self._post, self._number, self._purpose, self._receives = post, number, purpose, receives

    def wait(self) -> None:
        for peer, tensor in self._receives.items():
            if tensor.numel():
                arrived = self._post.between(peer, self._number, self._purpose).get(timeout=20)
                tensor.copy_(arrived)


class Instances:
    """``number`` instances with a pool of ``capacity`` slots each."""

    def __init__(self, number: int, capacity: int) -> None:
        self.post = Post()
        self.peers = [MemoryPeers(i, self.post) for i in range(number)]
        self.slots = [SlotTable(capacity, BLOCK) for _ in range(number)]
        shape = (-(-capacity // BLOCK), KV_HEADS, BLOCK, 2 * SIZE)
        self.memories = [CpuMemory(torch.full(shape, 777.0), "vec") for _ in range(number)]

    def run(self, work: Callable[[int], torch.Tensor], group: list[int]) -> list[torch.Tensor]:
        with ThreadPoolExecutor(len(group)) as threads:
            return list(threads.map(work, group))

    def prefill(
        self,
        qkv: list[torch.Tensor],
        ring: list[int],
        keeps: list[list[tuple[int, int, int]]],
    ) -> list[torch.Tensor]:
        """Prefill prompts, each [tokens, heads + 2 KV heads, size]. Returns the outputs, whole.

        keeps: of each prompt, (instance, start, stop).
        """

        def work(instance: int) -> torch.Tensor:
            place = ring.index(instance)
            prompts = [
                RingPrompt(
                    length=len(prompt),
                    keeps=tuple(
                        (start, stop, self.slots[instance].take(str(number), stop - start))
                        for keeper, start, stop in keeps[number]
                        if keeper == instance
                    ),
                )
                for number, prompt in enumerate(qkv)
            ]
            own = torch.cat([prompt[place :: len(ring)] for prompt in qkv])
            query, key, value = own.split([HEADS, KV_HEADS, KV_HEADS], 1)
            output = torch.empty_like(query)
            contexts = [self.slots[instance].of(str(number)) for number in range(len(qkv))]
            iteration: Iteration = RingPrefill(self.peers[instance], ring, place, prompts)
            if len(ring) == 1 and all(context.is_paged for context in contexts):
                iteration = LocalPrefill(contexts, [(0, len(c)) for c in contexts], CPU)
            iteration.attend(query, key, value, self.memories[instance], SCALE, output)
            return output

        outputs = [torch.empty(len(prompt), HEADS, SIZE) for prompt in qkv]
        for place, found in enumerate(self.run(work, ring)):
            parts = found.split([len(stripe(len(p), place, len(ring))) for p in qkv])
            for output, part in zip(outputs, parts, strict=True):
                output[place :: len(ring)] = part
        return outputs

    def prefill_rest(
        self, qkv: torch.Tensor, first: int, ring: list[int], keeps: list[tuple[int, int, int]]
    ) -> torch.Tensor:
        """Prefill request 0 from token ``first`` on. ``keeps`` count from there."""
        cached = tuple(len(self.slots[instance].of("0")) for instance in ring)
        rest = qkv[first:]

        def work(instance: int) -> torch.Tensor:
            place, table = ring.index(instance), self.slots[instance]
            slots = table.of("0").tensor()
            kept = tuple(
                (start, stop, table.take("0", stop - start))
                for keeper, start, stop in keeps
                if keeper == instance
            )
            prompt = RingPrompt(length=len(rest), keeps=kept, cached=cached, cached_slots=slots)
            query, key, value = rest[place :: len(ring)].split([HEADS, KV_HEADS, KV_HEADS], 1)
            output = torch.empty_like(query)
            iteration: Iteration = RingPrefill(self.peers[instance], ring, place, [prompt])
            if len(ring) == 1:
                iteration = LocalPrefill([table.of("0")], [(first, len(qkv))], CPU)
            iteration.attend(query, key, value, self.memories[instance], SCALE, output)
            return output

        output = torch.empty(len(rest), HEADS, SIZE)
        for place, found in enumerate(self.run(work, ring)):
            output[place :: len(ring)] = found
        return output

    def decode(
        self, tokens: dict[str, torch.Tensor], masters: dict[str, int], group: list[int]
    ) -> dict[str, torch.Tensor]:
        """Decode a token of each request, [heads + 2 KV heads, size]."""
        holders = {k: [i for i in group if len(self.slots[i].of(k))] for k in tokens}

        def work(instance: int) -> torch.Tensor:
            table = self.slots[instance]
            own = [key for key in tokens if masters[key] == instance]
            rows = []
            for key in own:
                slot = table.take(key, 1)
                peers = tuple(i for i in holders[key] if i != instance)
                rows.append(MasteredToken(slot=slot, context=table.of(key), peers=peers))
            served: dict[int, list[Context]] = {}
            for key, master in masters.items():
                if master != instance and instance in holders[key]:
                    served.setdefault(master, []).append(table.of(key))
            qkv = torch.stack([tokens[k] for k in own]) if own else torch.empty(0, 12, SIZE)
            query, key_, value = qkv.split([HEADS, KV_HEADS, KV_HEADS], 1)
            output = torch.empty_like(query)
            iteration = MultiMasterDecode(self.peers[instance], rows, served, CPU)
            iteration.attend(query, key_, value, self.memories[instance], SCALE, output)
            return output

        found = dict(zip(group, self.run(work, group), strict=True))
        return {
            key: found[master][[k for k in tokens if masters[k] == master].index(key)]
            for key, master in masters.items()
        }


def reference(qkv: torch.Tensor) -> torch.Tensor:
    """Causal attention in fp64."""
    query, key, value = qkv.double().split([HEADS, KV_HEADS, KV_HEADS], 1)
    length = len(qkv)
    grouped = query.view(length, KV_HEADS, HEADS // KV_HEADS, SIZE) * SCALE
    scores = torch.einsum("tkgd,skd->kgts", grouped, key)
    later = torch.arange(length)[None] > torch.arange(length)[:, None]
    weights = scores.masked_fill(later, float("-inf")).softmax(-1)
    return torch.einsum("kgts,skd->tkgd", weights, value).reshape(length, HEADS, SIZE)


def random_qkv(length: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(length, HEADS + 2 * KV_HEADS, SIZE, generator=generator)


def random_keeps(length: int, ring: list[int], rng: random.Random) -> list[tuple[int, int, int]]:
    keeps, start = [], 0
    while start < length:
        stop = rng.randint(start + 1, length)
        keeps.append((rng.choice(ring), start, stop))
        start = stop
    return keeps


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("lengths", [(1,), (2, 1), (3, 5, 4), (31, 32, 33, 64, 65, 7)])
def test_a_group_of_any_size_computes_what_one_instance_does(
    size: int, lengths: tuple[int, ...]
) -> None:
    rng = random.Random(size)
    instances = Instances(5, 256)
    ring = rng.sample(range(5), size)
    prompts = [random_qkv(length, seed) for seed, length in enumerate(lengths)]
    keeps = [random_keeps(len(prompt), ring, rng) for prompt in prompts]
    outputs = instances.prefill(prompts, ring, keeps)
    for output, prompt in zip(outputs, prompts, strict=True):
        assert_close(output, reference(prompt))


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize(("first", "rest"), [(1, 1), (33, 40), (64, 5), (70, 2)])
def test_what_is_cached_anywhere_is_seen_by_all_that_follows(
    size: int, first: int, rest: int
) -> None:
    rng = random.Random(size * 100 + first)
    instances = Instances(3, 256)
    ring = rng.sample(range(3), size)
    qkv = random_qkv(first + rest, first)
    instances.prefill([qkv[:first]], ring, [random_keeps(first, ring, rng)])
    found = instances.prefill_rest(qkv, first, ring, random_keeps(rest, ring, rng))
    assert_close(found, reference(qkv)[first:])
    (token,) = random_qkv(1, 7)
    decoded = instances.decode({"0": token}, {"0": ring[0]}, [0, 1, 2])
    assert_close(decoded["0"], reference(torch.cat([qkv, token[None]]))[-1])


@pytest.mark.parametrize("seed", range(12))
def test_decoding_sees_the_whole_context_wherever_masters_and_kv_are(seed: int) -> None:
    rng = random.Random(seed)
    instances = Instances(4, 512)
    lengths = [rng.randint(1, 70) for _ in range(3)]
    whole = [random_qkv(length + 6, seed * 10 + i) for i, length in enumerate(lengths)]
    ring = rng.sample(range(4), rng.randint(1, 4))
    prompts = [qkv[:length] for qkv, length in zip(whole, lengths, strict=True)]
    instances.prefill(prompts, ring, [random_keeps(len(p), ring, rng) for p in prompts])
    for step in range(6):
        tokens = {str(i): whole[i][length + step] for i, length in enumerate(lengths)}
        masters = {key: rng.randrange(4) for key in tokens}
        found = instances.decode(tokens, masters, [0, 1, 2, 3])
        for i, length in enumerate(lengths):
            assert_close(found[str(i)], reference(whole[i][: length + step + 1])[-1])


def test_a_swapped_slot_is_noticed() -> None:
    instances = Instances(2, 64)
    qkv = random_qkv(20, 1)
    instances.prefill([qkv[:19]], [0, 1], [[(0, 0, 10), (1, 10, 19)]])
    slots, memory = instances.slots[1].of("0").tensor(), instances.memories[1]
    memory.write(slots[:1], *memory.read(slots[3:4]).unbind(1))
    found = instances.decode({"0": qkv[19]}, {"0": 0}, [0, 1])
    with pytest.raises(AssertionError):
        assert_close(found["0"], reference(qkv)[-1])


@pytest.mark.slow
def test_a_thousand_times_down_and_up_move_no_kv() -> None:
    """What the counter counts is shown where requests do migrate, with whole engines."""
    instances = Instances(3, 16)
    qkv = random_qkv(9, 1)
    for turn in range(1_000):
        keeper = turn % 3
        instances.prefill([qkv[:7]], [0, 1, 2], [[(keeper, 0, 7)]])
        held = [len(slots.of("0")) for slots in instances.slots]
        assert held == [7 * (keeper == i) for i in range(3)], "down to one instance"
        for step in range(2):
            master = (keeper + 1 + step) % 3
            found = instances.decode({"0": qkv[7 + step]}, {"0": master}, [0, 1, 2])
            assert_close(found["0"], reference(qkv[: 8 + step])[-1])
        assert all(len(slots.of("0")) for slots in instances.slots), "up to three"
        for slots in instances.slots:
            slots.release("0")
    assert all(not peers.sent_bytes[Purpose.MIGRATE] for peers in instances.peers)
    assert all(peers.sent_bytes[Purpose.RING] for peers in instances.peers)


@pytest.mark.parametrize("queries", [1, 2, 9])
@pytest.mark.parametrize("cut", [1, 17, 33])
def test_merged_parts_are_the_whole(queries: int, cut: int) -> None:
    q, k, v = (torch.randn(n, h, SIZE) for n, h in ((queries, 8), (34, 2), (34, 2)))
    first, second = attend(q, k[:cut], v[:cut], SCALE), attend(q, k[cut:], v[cut:], SCALE)
    for found, expected in zip(merge(first, second), attend(q, k, v, SCALE), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_part_of_no_keys_changes_nothing() -> None:
    q, k, v = (torch.randn(n, h, SIZE) for n, h in ((3, 8), (5, 2), (5, 2)))
    part = attend(q, k, v, SCALE)
    for found, expected in zip(merge(part, attend(q, k[:0], v[:0], SCALE)), part, strict=True):
        torch.testing.assert_close(found, expected)
    nothing = merge(attend(q, k[:0], v[:0], SCALE), attend(q, k[:0], v[:0], SCALE))
    assert not nothing[0].any()
