"""Draws the benchmark: transitions beside memcpy, and ratios beside their targets."""

import os
from pathlib import Path
from typing import Any

from seesaw_bench.worker.run import DIRECTIONS, Measured
from seesaw_bench.worker.spread import Spread
from seesaw_bench.worker.targets import Target, targets

_COLOURS = {"pause": "#bdbdbd", "weights": "#1b9e77", "resume": "#d95f02"}
_MET, _MISSED = "#1b9e77", "#d95f02"
_WIDEST_RATIO = 1.8


def draw(measured: Measured, path: Path) -> None:
    """Write the picture as PNG."""
    os.environ.setdefault("MPLBACKEND", "Agg")
    import matplotlib.pyplot as plt

    figure, (parts, ratios, decode) = plt.subplots(
        1, 3, figsize=(15, 4.8), width_ratios=(1.3, 1, 1)
    )
    _draw_transitions(parts, measured)
    _draw_ratios(ratios, targets(measured))
    _draw_decode(decode, measured)
    figure.suptitle(
        f"Seesaw on {measured.machine['cores']} cores of {measured.machine['cpu']}, "
        f"{measured.model_bytes / (1 << 20):,.0f} MiB of weights, median and range of "
        f"{measured.workload.rounds} round(s)",
        fontsize=11,
    )
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_transitions(axes: Any, measured: Measured) -> None:
    labels: list[str] = []
    for to in DIRECTIONS:
        at, bottom = len(labels), 0.0
        labels.append(f"to {to}:\nby part")
        for part, colour in _COLOURS.items():
            height = 1e3 * measured.spread(f"transition.{to}.{part}_s").median
            axes.bar(at, height, bottom=bottom, color=colour, label=None if at else part)
            bottom += height
        for name, title, colour in (
            (f"transition.{to}.handover_s", "hand-\nover", "#7570b3"),
            (f"memcpy.{to}.s", "mem-\ncpy", "#333333"),
        ):
            spread = measured.spread(name)
            axes.bar(
                len(labels), 1e3 * spread.median, yerr=_reach(spread, 1e3), color=colour, capsize=3
            )
            labels.append(title)
    axes.set_xticks(range(len(labels)), labels, fontsize=8)
    axes.set_ylabel("ms")
    axes.set_title("One transition", fontsize=10)
    axes.legend(frameon=False, fontsize=8)


def _draw_ratios(axes: Any, shown: list[Target]) -> None:
    for at, target in enumerate(reversed(shown)):
        axes.barh(
            at,
            target.ratio.median,
            xerr=_reach(target.ratio),
            height=0.55,
            color=_MET if target.met else _MISSED,
            capsize=3,
        )
        axes.plot([target.bound] * 2, [at - 0.4, at + 0.4], color="black", lw=2)
        sign = "≤" if target.at_most else "≥"
        axes.text(
            0.03,
            at,
            f"{target.ratio.median:.2f}  (target {sign} {target.bound})",
            va="center",
            color="white",
            fontsize=8,
        )
    axes.set_xlim(0, _WIDEST_RATIO)  # a wider bar is cut off, but carries its figure
    axes.set_yticks(range(len(shown)), [t.title for t in reversed(shown)], fontsize=8)
    axes.set_title("Ratios; black line: target", fontsize=10)


def _draw_decode(axes: Any, measured: Measured) -> None:
    kinds = {
        "seesaw": "Seesaw\nshared",
        "plain": "vLLM, same\nkernels",
        "packed": "vLLM\npacked",
        "resident": "Seesaw\nresident",
    }
    for at, kind in enumerate(kinds):
        spread = measured.spread(f"steady.{kind}.tokens_per_s")
        colour = _MET if kind in ("seesaw", "resident") else "#7f7f7f"
        axes.bar(at, spread.median, yerr=_reach(spread), color=colour, capsize=3)
    axes.set_xticks(range(len(kinds)), list(kinds.values()), fontsize=8)
    axes.set_ylabel("tokens/s")
    axes.set_title(f"Steady decode, batch {measured.workload.batch}", fontsize=10)


def _reach(spread: Spread, factor: float = 1.0) -> list[list[float]]:
    return [
        [factor * (spread.median - spread.min)],
        [factor * (spread.max - spread.median)],
    ]
