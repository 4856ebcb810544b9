"""Writes the results as JSON for machines and as Markdown for the documentation."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from seesaw_bench.elastic.run import Measured
from seesaw_bench.elastic.tables import tables, targets
from seesaw_bench.worker.spread import Spread


def as_json(measured: Measured) -> dict[str, Any]:
    """Return all results as JSON. Units: seconds, unless a name says otherwise."""
    compared = targets(measured)
    return {
        "ok": all(target.met for target in compared),
        "targets": {target.name: target.as_json() for target in compared},
        "figures": {name: asdict(Spread.of(v)) for name, v in sorted(measured.figures.items())},
        "costs": {degree: asdict(cost) for degree, cost in measured.costs.items()},
        "instances": measured.instances,
        "workload": asdict(measured.workload),
        "machine": measured.machine,
        "seconds": round(measured.seconds, 1),
    }


def as_markdown(measured: Measured, command: str) -> str:
    """Return the results as a section of ``docs/benchmarks.md``."""
    machine, spec = measured.machine, measured.workload.spec
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [
        (
            f"`{command}` on {machine['cpu']}, {machine['cores']} cores, {versions}; load at the "
            f"start {machine['load_at_start']:.1f}. Model: {spec.num_layers} layers of "
            f"{spec.hidden_size}, {spec.num_heads} heads over {spec.num_kv_heads} KV heads, "
            f"{spec.dtype}, plain weights. A core a rank. {measured.workload.rounds} round(s); "
            "figures are medians (lowest–highest)."
        ),
        "",
    ]
    for table in tables(measured):
        lines += [f"**{table.title}**", "", _line(table.header), _line(["---"] * len(table.header))]
        lines += [_line(row) for row in table.rows]
        lines += ["", *(f"- {note}" for note in table.notes)]
        lines += [""] if table.notes else []
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
