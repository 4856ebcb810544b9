"""Writes the results as JSON for machines and as Markdown for the documentation."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from seesaw_bench.worker.run import Measured
from seesaw_bench.worker.spread import Spread
from seesaw_bench.worker.tables import tables
from seesaw_bench.worker.targets import targets
from seesaw_bench.worker.workload import DECODE, PREFILL
from seesaw_core.units import MIB


def as_json(measured: Measured) -> dict[str, Any]:
    """Return all results as JSON."""
    compared = targets(measured)
    return {
        "ok": all(target.met for target in compared),
        "targets": {target.name: target.as_json() for target in compared},
        "figures": {name: asdict(Spread.of(v)) for name, v in sorted(measured.figures.items())},
        "memory": {
            kind: {"by_kind": {k.value: n for k, n in tree.by_kind.items()}, "total": tree.total}
            for kind, tree in measured.memory.items()
        },
        "layouts": {"prefill": str(PREFILL), "decode": str(DECODE)},
        "model": {"path": measured.model, "bytes": measured.model_bytes},
        "workload": asdict(measured.workload),
        "facts": measured.facts,
        "machine": measured.machine,
        "seconds": round(measured.seconds, 1),
    }


def as_markdown(measured: Measured, command: str) -> str:
    """Return the results as a section of ``docs/benchmarks.md``."""
    machine = measured.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [
        (
            f"`{command}` on {machine['cpu']}, {machine['cores']} cores, "
            f"Linux {machine['kernel']}, Python {machine['python']}, {versions}. "
            f"Model: {measured.model_bytes / MIB:,.0f} MiB of weights. "
            f"Prefill {PREFILL}, decode {DECODE}, a core a rank. {measured.workload.rounds} rounds "
            f"in {measured.seconds / 60:.0f} minutes; figures are medians (lowest–highest)."
        ),
        "",
    ]
    for table in tables(measured):
        lines += [f"**{table.title}**", "", _line(table.header), _line(["---"] * len(table.header))]
        lines += [_line(row) for row in table.rows]
        lines += [""]
        lines += [f"- {note}" for note in table.notes]
        lines += [""] if table.notes else []
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
