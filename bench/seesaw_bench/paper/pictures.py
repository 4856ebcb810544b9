"""Pictures of the paper's evaluation, ours beside theirs."""

from pathlib import Path

from seesaw_bench.paper.cells import CellResult
from seesaw_bench.paper.studies import SWEEP_PAIR
from seesaw_core.layouts import LayoutPair


def draw_cells(cells: list[CellResult], path: Path) -> None:
    """The gain in each cell."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    names = [f"{c.cell.device}\n{c.cell.work}\n{c.cell.model}" for c in cells]
    figure, axis = plt.subplots(figsize=(11, 3.6), layout="constrained")
    bars = axis.bar(names, [c.gain for c in cells], color="#2563eb", width=0.6)
    axis.bar_label(bars, [f"{c.gain:.2f}×\n{c.pair.best}" for c in cells], fontsize=8, padding=2)
    axis.axhline(1.0, color="#111827", linewidth=0.8)
    axis.set_ylabel("best pair / best static layout")
    axis.set_ylim(0, max(c.gain for c in cells) * 1.25)
    axis.tick_params(axis="x", labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def draw_sweep(sweep: dict[float, dict[LayoutPair, float]], path: Path) -> None:
    """Throughput by the ratio of outputs, a line for each layout."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for pair in next(iter(sweep.values())):
        values = [per_s.get(pair, float("nan")) for per_s in sweep.values()]
        width = 2.5 if pair == SWEEP_PAIR else 1.2
        axis.plot(list(sweep), values, marker="o", label=str(pair), linewidth=width)
    axis.set_xlabel("output tokens / prompt tokens")
    axis.set_ylabel("requests/s")
    axis.set_ylim(0, None)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)
