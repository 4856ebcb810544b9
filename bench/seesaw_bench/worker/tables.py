"""The tables of the results, independent of terminals and files."""

from collections.abc import Sequence
from dataclasses import dataclass

from seesaw_bench.worker.memory import Kind
from seesaw_bench.worker.run import DIRECTIONS, Measured
from seesaw_bench.worker.spread import Spread
from seesaw_bench.worker.targets import Target, targets
from seesaw_bench.worker.workload import DECODE
from seesaw_core.units import MIB

_MS = 1e3


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table with notes that explain how to read it."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    notes: tuple[str, ...] = ()


def tables(measured: Measured) -> list[Table]:
    """Return the tables in reading order."""
    return [
        target_table(targets(measured)),
        _transition_table(measured),
        _moving_table(measured),
        _steady_table(measured),
        _memory_table(measured),
        _process_table(measured),
    ]


def target_table(compared: Sequence[Target]) -> Table:
    """Return the table that any benchmark shows of its targets."""
    return Table(
        title="Against the targets",
        header=("ratio", "measured", "target", "met"),
        rows=[
            (
                t.title,
                t.ratio.show(digits=3),
                f"{'≤' if t.at_most else '≥'} {t.bound}",
                "yes" if t.met else "no",
            )
            for t in compared
        ],
        notes=("Each ratio is taken round by round, so that what slows both sides cancels out.",),
    )


def _transition_table(measured: Measured) -> Table:
    def row(title: str, prefix: str, name: str) -> tuple[str, ...]:
        return (
            title,
            *(measured.spread(f"{prefix}.{to}.{name}").show(_MS) for to in DIRECTIONS),
        )

    rows = [
        row("pause: the running step ends", "transition", "pause_s"),
        row("weights: the arena is filled", "transition", "weights_s"),
        row("— of which the slowest rank copies", "transition", "copying_s"),
        row("resume: the engine may step", "transition", "resume_s"),
        row("all three, as the controller sees it", "transition", "total_s"),
        row("hand-over: last step ended to first begun", "transition", "handover_s"),
        row("memcpy of as many bytes", "memcpy", "s"),
        (
            "weights / memcpy",
            *(
                Spread.of_ratios(
                    measured.spread(f"transition.{to}.weights_s"),
                    measured.spread(f"memcpy.{to}.s"),
                ).show(digits=2)
                for to in DIRECTIONS
            ),
        ),
        (
            "bytes moved, MiB",
            *(f"{measured.spread(f'memcpy.{to}.bytes').median / MIB:,.0f}" for to in DIRECTIONS),
        ),
        row("hand-over with `--weights resident`", "resident", "handover_s"),
    ]
    if "idle_memcpy.decode.s" in measured.figures:  # takes two rounds
        idle_memcpy = measured.spread("idle_memcpy.decode.s").show(_MS)
        rows += [
            row("hand-over, the first after minutes of idling", "idle_transition", "handover_s"),
            ("memcpy, the first after minutes of idling", "", idle_memcpy),
        ]
    return Table(
        title="A transition by part, ms",
        header=("part", "to prefill", "to decode"),
        rows=rows,
        notes=(
            (
                f"Under load: {measured.workload.batch} requests decode and "
                f"{measured.workload.waiting} prompts wait. The pause is mostly the rest of a "
                "running step, which is work done and not lost; the hand-over leaves it out."
            ),
            (
                "The memcpy is `memcpy(3)` of as many bytes, in flat stretches of the host copy, "
                "to the same arena, by all ranks at the same time, in the same round; the slowest "
                "rank counts. Medians of three in a row, as transitions follow each other under "
                "load. The first touch of memory after minutes of idling may be slower, for a "
                "memcpy as for a transition."
            ),
        ),
    )


def _moving_table(measured: Measured) -> Table:
    def row(title: str, name: str, base: str) -> tuple[str, ...]:
        rate, reference = (measured.spread(f"{n}.tokens_per_s") for n in (name, base))
        return (title, rate.show(), Spread.of_ratios(rate, reference).show(digits=3))

    loaded = measured.spread("arrival.load.loaded_tokens_per_s")
    return Table(
        title="While KV moves, tokens/s",
        header=("what", "tokens/s", "ratio"),
        rows=[
            row("prefill, KV not leaving", "prefill.without", "prefill.without"),
            row("prefill, KV leaving", "prefill.with", "prefill.without"),
            row("decode, one-token prompts come in", "arrival.in_place", "arrival.in_place"),
            row("decode, KV comes in from the buffer", "arrival.load", "arrival.in_place"),
            row("decode, nothing comes in", "arrival.none", "arrival.in_place"),
        ],
        notes=(
            (
                f"Prefill: {measured.workload.prompts} fresh prompts of {measured.workload.prompt} "
                "tokens in the prefill engine."
            ),
            (
                f"Decode: a request of {measured.workload.entry} tokens every third step, so that "
                f"KV of {loaded.show(digits=0)} tokens/s comes in. The control sends as many "
                "requests of one token, which cost the scheduler and the model the same but move "
                "no KV."
            ),
        ),
    )


def _steady_table(measured: Measured) -> Table:
    titles = {
        "seesaw": "Seesaw, shared arena (plain weights)",
        "plain": "plain vLLM, plain weights: the same kernels",
        "packed": "plain vLLM as users run it: weights packed for oneDNN",
        "resident": "Seesaw, `--weights resident` (packed)",
    }
    seesaw = measured.spread("steady.seesaw.tokens_per_s")
    rows = []
    for kind, title in titles.items():
        rate = measured.spread(f"steady.{kind}.tokens_per_s")
        step = measured.spread(f"steady.{kind}.step_s")
        ratio = Spread.of_ratios(seesaw, rate)
        rows.append((title, rate.show(), step.show(_MS), ratio.show(digits=3)))
    resident, packed = (
        measured.spread(f"steady.{kind}.tokens_per_s") for kind in ("resident", "packed")
    )
    return Table(
        title="Steady decode",
        header=("engine", "tokens/s", "ms a step", "Seesaw shared / this"),
        rows=rows,
        notes=(
            (
                f"Layout {DECODE}, batch {measured.workload.batch}, context about "
                f"{measured.workload.context} tokens, all engines without compilation, from the "
                "last request's first token to the first request's end."
            ),
            (
                "Resident Seesaw / packed plain vLLM, both with oneDNN packing: "
                f"{Spread.of_ratios(resident, packed).show(digits=3)}."
            ),
        ),
    )


_MEANING = {
    Kind.HOST_WEIGHTS: (
        "Host copy of the weights",
        (
            "the checkpoint's pages in the operating system's cache, mapped by every rank, never "
            "copied"
        ),
    ),
    Kind.ARENA: (
        "Weights arenas (device)",
        "shared memory, one a device, used by both engines in turn",
    ),
    Kind.KV_BUFFER: ("KV buffer", "shared memory, reserved at the start"),
    Kind.PRIVATE: (
        "Private memory",
        "heaps and stacks; both engines' KV pools and any weights of an engine's own are in here",
    ),
    Kind.SHARED: ("Other shared memory", "message queues of vLLM and torch"),
    Kind.LIBRARIES: ("Code and libraries", "files mapped by the processes"),
}


def _memory_table(measured: Measured) -> Table:
    kinds = list(measured.memory)
    titles = {"seesaw": "Seesaw", "resident": "resident", "plain": "plain vLLM", "packed": "packed"}

    def cells(kind: Kind) -> tuple[str, ...]:
        return tuple(_mib(measured.memory[k].by_kind.get(kind, 0)) for k in kinds)

    rows = [(title, *cells(kind)) for kind, (title, _) in _MEANING.items()]
    totals = tuple(_mib(measured.memory[k].total) for k in kinds)
    rows.append(("all, each page counted once", *totals))
    return Table(
        title="Host and device memory, MiB",
        header=("part", *(titles[k] for k in kinds)),
        rows=rows,
        notes=(
            *(f"{title}: {meaning}." for title, meaning in _MEANING.values()),
            _one_host_copy(measured),
            _pools(measured),
            *_arenas(measured),
        ),
    )


def _one_host_copy(measured: Measured) -> str:
    tree = measured.memory["seesaw"]
    once = tree.by_kind.get(Kind.HOST_WEIGHTS, 0)
    return (
        f"One host copy, not two: the checkpoint has {_mib(measured.model_bytes)} MiB; Seesaw's "
        f"processes map {_mib(tree.host_weights_mapped)} MiB of it in all, which are "
        f"{_mib(once)} MiB of memory, since they map the same pages. On the CPU the arenas are the "
        "devices' memory, so they are what vLLM holds in any case."
    )


def _pools(measured: Measured) -> str:
    sizes = measured.facts["seesaw"]["sizes"]
    return (
        f"KV pools, within the private memory of each rank: {_mib(sizes['decode_pool_bytes'])} MiB "
        f"for decode, {_mib(sizes['prefill_pool_bytes'])} MiB for prefill. The reserved KV buffer "
        f"has {_mib(sizes['buffer_bytes'])} MiB."
    )


def _arenas(measured: Measured) -> list[str]:
    notes = []
    for engine, ranks in measured.facts["seesaw"]["ranks"].items():
        replays = [rank["replay"] for rank in ranks]
        parts = ", ".join(
            f"{name.removesuffix('_bytes')} {' + '.join(_mib(p[name]) for p in replays)}"
            for name in ("copied_bytes", "written_bytes", "snapshot_bytes", "resident_bytes")
        )
        notes.append(f"What a transition to {engine} moves, MiB by rank: {parts}.")
    return notes


def _process_table(measured: Measured) -> Table:
    tree = measured.memory["seesaw"]
    names = {
        rank["pid"]: f"{engine} rank {rank['rank']}"
        for engine, ranks in measured.facts["seesaw"]["ranks"].items()
        for rank in ranks
    }
    rows = [(names[pid], _mib(tree.private_by_pid.get(pid, 0))) for pid in names]
    rest = {pid: size for pid, size in tree.private_by_pid.items() if pid not in names}
    rows.append((f"server, engine cores, fork server ({len(rest)})", _mib(sum(rest.values()))))
    return Table(
        title="Seesaw's processes, memory of their own, MiB", header=("process", "MiB"), rows=rows
    )


def _mib(num_bytes: float) -> str:
    return f"{num_bytes / MIB:,.0f}"
