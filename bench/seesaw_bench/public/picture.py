"""Draws predictions over published figures, a panel for each metric."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seesaw_bench.public.predictions import Prediction
from seesaw_bench.public.report import counted
from seesaw_bench.public.rows import Metric

_COLOURS = ("#2563eb", "#d95f02", "#1b9e77", "#7c3aed", "#b91c1c", "#0891b2", "#a16207")


def draw(predictions: Sequence[Prediction], path: Path) -> None:
    """Write the picture as PNG. A point on the line is met; the grey band is 10 % wide each way."""
    os.environ.setdefault("MPLBACKEND", "Agg")
    import matplotlib.pyplot as plt

    shown = [m for m in Metric if counted(predictions, m)]
    names = sorted({p.row.accelerator for p in predictions if not p.row.harness.is_order_only})
    colours = dict(zip(names, _COLOURS, strict=False))
    figure, axes = plt.subplots(
        1, len(shown), figsize=(4.4 * len(shown), 4.4), layout="constrained", squeeze=False
    )
    for axis, metric in zip(axes[0], shown, strict=True):
        _draw(axis, counted(predictions, metric), metric, colours)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw(axis: Any, rows: Sequence[Prediction], metric: Metric, colours: dict[str, str]) -> None:
    for name, colour in colours.items():
        own = [p for p in rows if p.row.accelerator == name]
        if own:
            published = [p.row.published[metric] for p in own]
            axis.scatter(
                published, [p.values[metric] for p in own], s=10, color=colour, label=name, lw=0
            )
    values = [p.row.published[metric] for p in rows]
    ends = [0.8 * min(values), 1.25 * max(values)]
    axis.plot(ends, ends, color="#111827", linewidth=0.8)
    axis.fill_between(
        ends, [0.9 * e for e in ends], [1.1 * e for e in ends], color="#e5e7eb", zorder=0
    )
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel(f"published {metric.value}")
    axis.set_ylabel("predicted")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8)
