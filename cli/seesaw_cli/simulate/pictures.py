"""Pictures of simulations: phases over time, the fill of the buffers, and systems side by side."""

from pathlib import Path
from typing import Any

from seesaw_sim.reports import Report

_COLOURS = {
    "prefill": "#d97706",
    "decode": "#2563eb",
    "transition": "#111827",
    "mixed": "#7c3aed",
}


def draw_all(
    reports: dict[str, Report], swept: dict[str, list[tuple[float, float]]], folder: Path
) -> list[str]:
    """Draw all pictures into ``folder``. Returns their paths."""
    import matplotlib as mpl

    mpl.use("Agg")
    paths = []
    for name, report in reports.items():
        path = folder / f"timeline-{_file_name(name)}.png"
        _timeline(name, report, path)
        paths.append(str(path))
    if len(reports) > 1:
        path = folder / "side-by-side.png"
        _side_by_side(reports, path)
        paths.append(str(path))
    if swept:
        path = folder / "output-ratio.png"
        _ratios(swept, path)
        paths.append(str(path))
    return paths


def _timeline(name: str, report: Report, path: Path) -> None:
    """Draw a row for each replica, coloured by its phases, above the fill of the buffers."""
    import matplotlib.pyplot as plt

    replicas = sorted({s.replica for s in report.stretches})
    has_buffer = bool(report.buffer)
    height = 1.2 + 0.35 * len(replicas) + (2.0 if has_buffer else 0.0)
    figure, axes = plt.subplots(
        2 if has_buffer else 1,
        1,
        figsize=(10, height),
        sharex=True,
        squeeze=False,
        gridspec_kw={"height_ratios": [0.4 * len(replicas) + 0.4, 2]} if has_buffer else None,
        layout="constrained",
    )
    top = axes[0][0]
    for what, colour in _COLOURS.items():
        stretches = [s for s in report.stretches if s.what == what]
        if stretches:
            for replica in replicas:
                own = [s for s in stretches if s.replica == replica]
                spans = [(s.start_s, s.stop_s - s.start_s) for s in own]
                top.broken_barh(spans, (replica - 0.4, 0.8), facecolors=colour)
            top.plot([], [], color=colour, linewidth=6, label=what)
    top.set_yticks(replicas, [f"replica {r}" for r in replicas])
    top.set_title(
        f"{name}: {report.total_tokens_per_s:,.0f} tokens/s, {report.transitions} transitions",
        loc="left",
    )
    top.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    if has_buffer:
        bottom = axes[1][0]
        for replica in replicas:
            points = [(t, stored) for r, t, stored in report.buffer if r == replica]
            step = max(1, len(points) // 2000)
            times = [t for t, _ in points[::step]]
            shares = [100 * stored / report.buffer_tokens for _, stored in points[::step]]
            bottom.plot(
                times, shares, drawstyle="steps-post", linewidth=1, label=f"replica {replica}"
            )
        bottom.set_ylabel("KV stored,\n% of the buffer")
        bottom.set_ylim(0, None)
        if len(replicas) > 1:
            bottom.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    axes[-1][0].set_xlabel("simulated seconds")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _side_by_side(reports: dict[str, Report], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(11, 1.4 + 0.45 * len(reports)), layout="constrained")
    names = list(reports)
    figures: list[tuple[str, list[float]]] = [
        ("tokens/s", [r.total_tokens_per_s for r in reports.values()]),
        ("TTFT p50, s", [r.ttft.p50 for r in reports.values()]),
        ("TPOT p50, ms", [1e3 * r.tpot.p50 for r in reports.values()]),
    ]
    for axis, (title, values) in zip(axes, figures, strict=True):
        bars = axis.barh(names, values, color="#2563eb")
        axis.bar_label(bars, fmt="{:,.0f}", padding=3)
        axis.set_title(title, loc="left")
        axis.invert_yaxis()
        axis.margins(x=0.2)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _ratios(swept: dict[str, list[tuple[float, float]]], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, points in swept.items():
        axis.plot(*_columns(points), marker="o", label=name)
    axis.set_xscale("log")
    axis.set_xlabel("output tokens / prompt tokens")
    axis.set_ylabel("tokens/s")
    axis.set_ylim(0, None)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _columns(points: list[tuple[float, float]]) -> tuple[Any, Any]:
    return [x for x, _ in points], [y for _, y in points]


def _file_name(name: str) -> str:
    return name.replace("→", "-to-").replace("+", "-and-")
