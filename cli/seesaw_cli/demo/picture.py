"""What the demo saw of its worker, and the picture of it."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(slots=True, kw_only=True)
class Recording:
    """What was seen of the worker. Units: seconds since the first request."""

    tokens: list[list[int]] = field(default_factory=list)
    samples: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    transitions: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    final: dict[str, Any] = field(default_factory=dict)


def draw(recording: Recording, path: Path) -> None:
    """Phases over time, the KV buffer's fill, and what waits and decodes."""
    os.environ.setdefault("MPLBACKEND", "Agg")
    import matplotlib.pyplot as plt

    times = [at for at, _ in recording.samples]
    states = [state for _, state in recording.samples]
    figure, (phases, fill, load) = plt.subplots(
        3, 1, figsize=(11, 6.5), sharex=True, height_ratios=(0.6, 1.4, 1.4)
    )
    colours = {"prefill": "#d95f02", "decode": "#1b9e77"}
    for phase, start, stop in _phases(recording):
        phases.axvspan(start, stop, color=colours[phase], lw=0)
    for phase, colour in colours.items():
        layout = states[0][f"{phase}_layout"]
        phases.plot([], [], color=colour, lw=8, label=f"{phase} ({layout})")
    phases.set_yticks([])
    phases.legend(loc="upper center", ncols=2, bbox_to_anchor=(0.5, 1.8), frameon=False)
    capacity = states[0]["buffer"]["blocks"]["capacity"]
    bottom = [0.0] * len(states)
    for name, colour in (("loading", "#1b9e77"), ("stored", "#7570b3"), ("reserved", "#d95f02")):
        share = [100 * s["buffer"]["blocks"][name] / capacity for s in states]
        top = [a + b for a, b in zip(bottom, share, strict=True)]
        fill.fill_between(times, bottom, top, step="post", color=colour, label=name, alpha=0.85)
        bottom = top
    fill.set_ylabel("KV buffer, %")
    fill.set_ylim(0, 100)
    fill.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    for name, label in (("num_waiting", "waiting prompts"), ("num_decoding", "in decode engine")):
        load.step(times, [s[name] for s in states], where="post", label=label)
    load.set_ylabel("requests")
    load.set_xlabel("seconds")
    load.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    figure.suptitle("One worker, two layouts on the same devices", y=0.99)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _phases(recording: Recording) -> list[tuple[str, float, float]]:
    """Phases as (name, start, stop), from the transitions."""
    edges = [t for t in recording.transitions if t["at_s"] > 0]
    spans, start, phase = [], 0.0, "decode"
    for edge in edges:
        spans.append((phase, start, edge["at_s"]))
        start, phase = edge["at_s"], edge["to"]
    spans.append((phase, start, recording.seconds))
    return spans
