"""Proves arena, replay and KV buffer on one GPU, without vLLM, and measures them.

    PYTHONPATH=core:worker python tests/gpu/check_cuda_device.py            # on a GPU: 3 GiB
    PYTHONPATH=core:worker python tests/gpu/check_cuda_device.py --device cpu

Two processes share one device: ``tp`` holds rank 0 of a tensor-parallel layout, ``pp`` stage 0 of
a pipeline-parallel one. They take turns to fill the arena, and each must always find its own
first checksum again. With ``--host memory`` the checkpoint lies in shared memory that is mapped
writable, which every GPU can pin; as it is mapped else, most GPUs on PCIe cannot.

Needs torch, and cuda-bindings, which torch's CUDA builds bring. Exits with 1 if a check fails;
prints a table and, as the last line, the same as JSON. pytest does not collect it, by its name.
"""

import argparse
import json
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seesaw_core.resharding.placement import KvShard, Span
from seesaw_worker.devices.base import Device
from seesaw_worker.devices.cpu import CpuDevice
from seesaw_worker.devices.cuda import CudaDevice
from seesaw_worker.modes.resharding.kv.buffer import KvBuffer, as_pages, create_buffer
from seesaw_worker.modes.resharding.weights.arena import Arena
from seesaw_worker.modes.resharding.weights.host import HostModel
from seesaw_worker.modes.resharding.weights.recorder import recording
from seesaw_worker.modes.resharding.weights.replay import WeightsReplay
from seesaw_worker.processes.shm import map_segment

GIB = 1 << 30
BF16 = torch.bfloat16
PAGE_TOKENS, HEAD_DIM = 16, 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A Llama's shape. Counts, and elements."""

    hidden: int
    intermediate: int
    kv_width: int
    vocab: int
    num_layers: int

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield "embed", (self.vocab, self.hidden)
        for layer in range(self.num_layers):
            for name, rows in (("q", self.hidden), ("k", self.kv_width), ("v", self.kv_width)):
                yield f"{layer}.{name}", (rows, self.hidden)
            yield f"{layer}.o", (self.hidden, self.hidden)
            for name in ("gate", "up"):
                yield f"{layer}.{name}", (self.intermediate, self.hidden)
            yield f"{layer}.down", (self.hidden, self.intermediate)
            yield f"{layer}.norm", (self.hidden,)
        yield "head", (self.vocab, self.hidden)


LARGE = Model(hidden=4096, intermediate=14336, kv_width=1024, vocab=32003, num_layers=6)
SMALL = Model(hidden=512, intermediate=1792, kv_width=128, vocab=2003, num_layers=6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What every process is told."""

    device: str
    host: str
    model: Model
    files: tuple[Path, ...]
    folder: Path
    arena_bytes: int
    rounds: int


class Shard(nn.Module):
    """One rank's parameters: a ``1/tp`` part of ``layers``, merged as vLLM merges them."""

    def __init__(self, model: Model, layers: range, tp: int, device: str) -> None:
        super().__init__()
        self.tp = tp
        padded = -(-model.vocab // 64) * 64

        def add(name: str, *shape: int) -> None:
            data = torch.empty(shape, dtype=BF16, device=device)
            self.register_parameter(name, nn.Parameter(data, requires_grad=False))

        add("embed", padded // tp, model.hidden)
        for layer in layers:
            add(f"{layer}_qkv", (model.hidden + 2 * model.kv_width) // tp, model.hidden)
            add(f"{layer}_o", model.hidden, model.hidden // tp)
            add(f"{layer}_gate_up", 2 * model.intermediate // tp, model.hidden)
            add(f"{layer}_down", model.hidden, model.intermediate // tp)
            add(f"{layer}_norm", model.hidden)
        if tp > 1:
            add("head", padded // tp, model.hidden)
        add("computed", 4096)  # no copy fills it: the replay must find and keep it

    def load(self, host: HostModel) -> None:
        """Rank 0's part of each tensor, copied as vLLM's weight loaders copy."""
        found = dict(self.named_parameters())
        filled: dict[str, int] = {}
        for name, tensor in host.tensors():
            layer, _, kind = name.rpartition(".")
            merged = {"q": "qkv", "k": "qkv", "v": "qkv", "gate": "gate_up", "up": "gate_up"}
            key = f"{layer}_{merged.get(kind, kind)}" if layer else kind
            if key not in found:
                continue
            data = found[key].data
            if kind in ("embed", "head"):
                part = tensor.narrow(0, 0, min(data.shape[0], tensor.shape[0]))
                data[: part.shape[0]].copy_(part)
                data[part.shape[0] :].fill_(0)
            elif kind in ("o", "down"):
                data.copy_(tensor.narrow(1, 0, tensor.shape[1] // self.tp))
            elif kind == "norm":
                data.copy_(tensor)
            else:
                rows = tensor.shape[0] // self.tp
                start = filled.get(key, 0)
                data.narrow(0, start, rows).copy_(tensor.narrow(0, 0, rows))
                filled[key] = start + rows
        found["computed"].data.copy_(torch.arange(4096, device=found["computed"].device).sin())


def write_checkpoint(folder: Path, model: Model) -> tuple[Path, ...]:
    """Random bits as safetensors files of up to 1 GiB each."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.empty(8 << 20, dtype=torch.int64).random_(generator=generator)
    paths: list[Path] = []
    group: list[tuple[str, tuple[int, ...]]] = []
    held = 0
    for entry in (*model.tensors(), None):
        num_bytes = 0 if entry is None else 2 * torch.Size(entry[1]).numel()
        if group and (entry is None or held + num_bytes > GIB):
            header, offset = {}, 0
            for name, shape in group:
                stop = offset + 2 * torch.Size(shape).numel()
                header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, stop]}
                offset = stop
            text = json.dumps(header).encode()
            text += b" " * (-len(text) % 8)
            path = folder / f"model-{len(paths)}.safetensors"
            with path.open("wb") as file:
                file.write(len(text).to_bytes(8, "little") + text)
                while offset > 0:  # a file's chunks differ, so that a misplaced copy shows
                    raw = memoryview(noise.add_(offset).view(torch.uint8).numpy())
                    offset -= file.write(raw[: min(offset, len(raw))])
            paths.append(path)
            group, held = [], 0
        if entry is not None:
            group.append(entry)
            held += num_bytes
    return tuple(paths)


class Rank:
    """One process's half: it does what it is asked, by name."""

    def __init__(self, setup: Setup, role: str) -> None:
        self.setup = setup
        torch.set_num_threads(1)  # as vLLM does, and the other process has work to do as well
        self.device: Device = CudaDevice() if setup.device == "cuda" else CpuDevice()
        host = HostModel(setup.files)
        if setup.host == "memory":
            host.files = [
                torch.frombuffer(map_segment(path), dtype=torch.uint8) for path in setup.files
            ]
        host.lock_pages()
        self.memory = self.device.open_arena(setup.folder, 0, setup.arena_bytes)
        arena = Arena(self.memory)
        layers, tp = setup.model.num_layers, 2 if role == "tp" else 1
        with arena.placing_parameters(), recording(host, arena.find) as ops:
            held = range(layers if role == "tp" else layers // 2)
            shard = Shard(setup.model, held, tp, setup.device)
            shard.load(host)
        self.device.settle_arena(setup.folder, 0, arena.used_bytes)
        live = [p.data for p in shard.parameters()]
        start = time.perf_counter()
        self.weights = WeightsReplay(arena=arena, host=host, device=self.device, ops=ops, live=live)
        self.record_s = time.perf_counter() - start
        pinned = getattr(self.device, "_pinned", {})
        self.way = "memory" if not pinned else "direct" if pinned[_at(host)][1] else "staged"

    def built(self) -> dict[str, Any]:
        summary = self.weights.summary
        facts = {name: getattr(summary, name) for name in summary.__slots__}
        return facts | {"way": self.way, "plan_s": self.record_s}

    def checksum(self) -> str:
        return self.weights.checksum()

    def replay(self) -> tuple[int, float]:
        start = time.perf_counter()
        num_bytes = self.weights.run()
        return num_bytes, time.perf_counter() - start

    def flip(self, offset: int) -> None:
        self.memory.bytes[offset] ^= 0x80
        self.device.synchronize()

    def memcpy(self) -> tuple[int, float]:
        return min((self.weights.time_memcpy(0) for _ in range(3)), key=lambda found: found[1])

    def pinned_memcpy(self) -> tuple[int, float]:
        """The link's limit: torch's copy of one pinned tensor of as many bytes."""
        size = self.weights.summary.copied_bytes
        source = torch.empty(size, dtype=torch.uint8, pin_memory=self.setup.device == "cuda")
        source.fill_(1)
        target = self.memory.bytes[:size]

        def copy() -> None:
            target.copy_(source, non_blocking=True)

        found = size, self.best(copy)
        self.weights.run()
        return found

    def best(self, work: Callable[[], None], times: int = 5) -> float:
        """Seconds of the fastest of several runs."""
        seconds = []
        for _ in range(times):
            self.device.synchronize()
            start = time.perf_counter()
            work()
            self.device.synchronize()
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    def kv_roundtrip(self, num_heads: int, scattered: bool) -> dict[str, float]:
        """Save pools, spoil them, load them to other blocks. Raises: AssertionError."""
        small = self.setup.device == "cpu"
        layers, blocks, moved = 8, 256 if small else 2048, 64 if small else 1024
        page = PAGE_TOKENS * 2 * HEAD_DIM * 2
        heads = Span(start=0, stop=num_heads)
        shard = KvShard(layers=Span(start=0, stop=layers), heads=heads, writes=True)
        path = self.setup.folder / f"kv-{num_heads}-{scattered}"
        create_buffer(path, moved, layers * 8 * page)
        start = time.perf_counter()
        kv = KvBuffer(path, self.device, num_layers=layers, num_kv_heads=8, page_bytes=page)
        pin_s = time.perf_counter() - start
        shape = (blocks, num_heads, PAGE_TOKENS, 2 * HEAD_DIM)
        pools = [
            as_pages(
                torch.randint(-999, 999, shape, dtype=torch.int16, device=self.setup.device).view(
                    BF16
                ),
                num_heads=num_heads,
                page_bytes=page,
            )
            for _ in range(layers)
        ]
        order = torch.randperm if scattered else torch.arange
        saved, into = order(blocks)[:moved].tolist(), order(blocks)[-moved:].tolist()
        slots = order(moved).tolist()
        first = [pool[saved].clone() for pool in pools]

        def save() -> None:
            for layer, pool in enumerate(pools):
                kv.save(pool, layer=layer, shard=shard, pool_blocks=saved, buffer_blocks=slots)

        def load() -> None:
            for layer, pool in enumerate(pools):
                kv.load(pool, layer=layer, shard=shard, buffer_blocks=slots, pool_blocks=into)

        save_s = self.best(save, 3)
        for layer, pool in enumerate(pools):
            there = kv.words_BLHW[slots, layer, :num_heads]
            assert torch.equal(there, first[layer].cpu()), "the buffer differs from the pool"
            pool.fill_(-1)
        load_s = self.best(load, 3)
        for layer, pool in enumerate(pools):
            assert torch.equal(pool[into], first[layer]), "the pool differs from what was saved"
            untouched = torch.ones(blocks, dtype=torch.bool)
            untouched[into] = False
            assert bool((pool[untouched.to(pool.device)] == -1).all()), "a load wrote elsewhere"
        path.unlink()
        size = moved * layers * num_heads * page
        return {"save_gbps": size / save_s / 1e9, "load_gbps": size / load_s / 1e9, "pin_s": pin_s}


def _at(host: HostModel) -> int:
    return int(host.files[0].data_ptr())


def serve(setup: Setup, role: str, pipe: Connection) -> None:
    rank: Rank | None = None
    while (call := pipe.recv()) is not None:
        name, args = call
        try:
            if name == "start":
                rank = Rank(setup, role)
            pipe.send((True, getattr(rank, "built" if name == "start" else name)(*args)))
        except Exception as error:  # noqa: BLE001 - goes to the parent, which stops
            import traceback

            pipe.send((False, f"{role}.{name}: {error!r}\n{traceback.format_exc()}"))


class Process:
    """The parent's handle on one rank."""

    def __init__(self, setup: Setup, role: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(setup, role, theirs), daemon=True)
        self._process.start()

    def call(self, name: str, *args: Any) -> Any:
        self._pipe.send((name, args))
        if not self._pipe.poll(300):
            raise SystemExit(f"FAILED: no answer to {name} in 300 s")
        done, answer = self._pipe.recv()
        if not done:
            raise SystemExit(f"FAILED: {answer}")
        return answer

    def stop(self) -> None:
        self._pipe.send(None)
        self._process.join(30)


class Report:
    """Checks and figures, printed as they come."""

    def __init__(self) -> None:
        self.figures: dict[str, Any] = {}
        self.failed: list[str] = []

    def check(self, name: str, good: bool) -> None:
        print(f"{'ok    ' if good else 'FAILED'} {name}", flush=True)
        if not good:
            self.failed.append(name)

    def figure(self, name: str, value: Any) -> None:
        self.figures[name] = value
        shown = f"{value:.4g}" if isinstance(value, float) else value
        print(f"       {name:<44} {shown}", flush=True)

    def copied(self, name: str, found: tuple[int, float]) -> float:
        num_bytes, seconds = found
        self.figure(f"{name}_s", seconds)
        self.figure(f"{name}_gbps", num_bytes / seconds / 1e9)
        return seconds / num_bytes


def check_weights(report: Report, ranks: dict[str, Process], rounds: int) -> None:
    first: dict[str, str] = {}
    for role, rank in ranks.items():
        for name, value in rank.call("start").items():
            report.figure(f"{role}_{name}", value)
        first[role] = rank.call("checksum")
        figures = report.figures
        report.check(
            f"{role}: nothing lies outside the arena", not figures[f"{role}_resident_bytes"]
        )
        report.check(
            f"{role}: what was computed, and only that, is a snapshot",
            0 < figures[f"{role}_snapshot_bytes"] <= 2 * 4096,
        )
    report.check(
        "tp: its bytes are gone while pp owns", ranks["tp"].call("checksum") != first["tp"]
    )
    times: dict[str, list[tuple[int, float]]] = {role: [] for role in ranks}
    same = True
    for _ in range(rounds):
        for role, rank in ranks.items():
            times[role].append(rank.call("replay"))
            same = same and rank.call("checksum") == first[role]
    report.check(f"{2 * rounds} alternating replays: each finds its first checksum", same)
    for role, rank in ranks.items():
        rank.call("replay")
        rank.call("flip", 12345)
        report.check(f"{role}: one flipped bit is seen", rank.call("checksum") != first[role])
        rank.call("replay")
        report.check(f"{role}: a replay mends it", rank.call("checksum") == first[role])
        replay = report.copied(f"{role}_replay", min(times[role], key=lambda found: found[1]))
        plain = report.copied(f"{role}_memcpy", rank.call("memcpy"))
        limit = report.copied(f"{role}_pinned_memcpy", rank.call("pinned_memcpy"))
        report.figure(f"{role}_replay_over_memcpy", replay / plain)
        report.figure(f"{role}_replay_over_pinned_memcpy", replay / limit)


def check_kv(report: Report, rank: Process) -> None:
    for heads in (8, 4, 1):
        for scattered in (False, True):
            name = f"kv_{heads}_heads_{'scattered' if scattered else 'runs'}"
            for figure, value in rank.call("kv_roundtrip", heads, scattered).items():
                report.figure(f"{name}_{figure}", value)
            report.check(f"{name}: bit-identical both ways", True)


@contextmanager
def folders(device: str) -> Iterator[tuple[Path, Path]]:
    """One folder on disk and one in shared memory, both removed at the end."""
    disk = Path(tempfile.mkdtemp(prefix=f"check-{device}-"))
    memory = Path(tempfile.mkdtemp(prefix=f"check-{device}-", dir="/dev/shm"))
    try:
        yield disk, memory
    finally:
        shutil.rmtree(disk, ignore_errors=True)
        shutil.rmtree(memory, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--host", choices=("mapped", "memory"), default="mapped")
    parser.add_argument("--rounds", type=int, default=10, help="replays of each process")
    args = parser.parse_args()
    model = LARGE if args.device == "cuda" else SMALL
    report = Report()
    with folders(args.device) as (disk, memory):
        files = write_checkpoint(memory if args.host == "memory" else disk, model)
        setup = Setup(
            device=args.device,
            host=args.host,
            model=model,
            files=files,
            folder=memory,
            arena_bytes=sum(path.stat().st_size for path in files) * 3 // 4,
            rounds=args.rounds,
        )
        report.figure("checkpoint_bytes", sum(path.stat().st_size for path in files))
        ranks = {role: Process(setup, role) for role in ("tp", "pp")}
        check_weights(report, ranks, args.rounds)
        check_kv(report, ranks["pp"])
        for rank in ranks.values():
            rank.stop()
    print("FAILED: " + ", ".join(report.failed) if report.failed else "all checks passed")
    print(json.dumps({"host": args.host, "device": args.device, **report.figures}))
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
