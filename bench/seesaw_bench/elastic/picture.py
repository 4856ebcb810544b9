"""Draws the benchmark of elastic instances: time to the first token, and the ratios."""

import os
from pathlib import Path
from typing import Any

from seesaw_bench.elastic.run import Measured, degrees
from seesaw_bench.elastic.tables import targets


def draw(measured: Measured, path: Path) -> None:
    """Write the picture as PNG."""
    os.environ.setdefault("MPLBACKEND", "Agg")
    import matplotlib.pyplot as plt

    figure, (times, ratios) = plt.subplots(1, 2, figsize=(13, 4.8))
    _draw_times(times, measured)
    _draw_ratios(ratios, measured)
    figure.suptitle(
        f"{measured.instances} elastic instances on {measured.machine['cores']} cores of "
        f"{measured.machine['cpu']}, medians of {measured.workload.rounds} round(s)",
        fontsize=11,
    )
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_times(axes: Any, measured: Measured) -> None:
    titles = {f"degree{d}": f"degree {d}" for d in degrees(measured)}
    titles |= {"plain": "vLLM, one core", "tensor": f"vLLM, T{measured.instances}"}
    lengths = [n for n in measured.workload.lengths if f"ttft.{n}.plain" in measured.figures]
    for name, title in titles.items():
        seconds = [measured.spread(f"ttft.{n}.{name}").median for n in lengths]
        axes.plot(lengths, seconds, marker="o", ls="-" if "degree" in name else "--", label=title)
    if lengths:
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.legend(frameon=False, fontsize=8)
    axes.set_xlabel("tokens of the prompt")
    axes.set_ylabel("seconds")
    axes.set_title("Time to the first token", fontsize=10)


def _draw_ratios(axes: Any, measured: Measured) -> None:
    shown = list(reversed(targets(measured)))
    for at, target in enumerate(shown):
        share = target.ratio.median / target.bound
        axes.barh(at, share, height=0.55, color="#1b9e77" if target.met else "#d95f02")
        sign = "≤" if target.at_most else "≥"
        axes.text(0.02, at, f"{target.ratio.median:.2f} (target {sign} {target.bound})", fontsize=8)
    axes.axvline(1.0, color="black")
    axes.set_yticks(range(len(shown)), [target.title for target in shown], fontsize=8)
    axes.set_title("Measured, as shares of the targets", fontsize=10)
