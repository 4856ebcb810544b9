"""The picture of the re-sharding demo."""

import os
from pathlib import Path

from seesaw_cli.demo.driving import Recording
from seesaw_core.messages import ReshardingState, WorkerState
from seesaw_core.resharding.ledger import LedgerTotals


def resharding(state: WorkerState | None) -> ReshardingState:
    """Return the re-sharding part of the worker's state."""
    assert state is not None, "no state was recorded"
    assert state.resharding is not None, state.mode
    return state.resharding


def blocks_of(part: ReshardingState) -> LedgerTotals:
    """Return the blocks of the worker's buffer, which exists once the worker serves."""
    assert part.buffer is not None
    return part.buffer.blocks


def draw(recording: Recording, path: Path) -> None:
    """Draw the phases, the fill of the KV buffer, and waiting and decoding requests over time."""
    os.environ.setdefault("MPLBACKEND", "Agg")
    import matplotlib.pyplot as plt

    times = [at for at, _ in recording.samples]
    states = [state for _, state in recording.samples]
    parts = [resharding(state) for state in states]
    figure, (phases, fill, load) = plt.subplots(
        3, 1, figsize=(11, 6.5), sharex=True, height_ratios=(0.6, 1.4, 1.4)
    )
    colours = {"prefill": "#d95f02", "decode": "#1b9e77"}
    for phase, start, stop in _phases(recording):
        phases.axvspan(start, stop, color=colours[phase], lw=0)
    for phase, colour in colours.items():
        layout = getattr(parts[0], f"{phase}_layout")
        phases.plot([], [], color=colour, lw=8, label=f"{phase} ({layout})")
    phases.set_yticks([])
    phases.legend(loc="upper center", ncols=2, bbox_to_anchor=(0.5, 1.8), frameon=False)
    capacity = blocks_of(parts[0]).capacity
    bottom = [0.0] * len(states)
    for name, colour in (("loading", "#1b9e77"), ("stored", "#7570b3"), ("reserved", "#d95f02")):
        share = [100 * getattr(blocks_of(part), name) / capacity for part in parts]
        top = [a + b for a, b in zip(bottom, share, strict=True)]
        fill.fill_between(times, bottom, top, step="post", color=colour, label=name, alpha=0.85)
        bottom = top
    fill.set_ylabel("KV buffer, %")
    fill.set_ylim(0, 100)
    fill.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    load.step(times, [s.num_waiting for s in states], where="post", label="waiting prompts")
    load.step(times, [p.num_decoding for p in parts], where="post", label="in decode engine")
    load.set_ylabel("requests")
    load.set_xlabel("seconds")
    load.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    figure.suptitle("One worker, two layouts on the same devices", y=0.99)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _phases(recording: Recording) -> list[tuple[str, float, float]]:
    """Return the phases as (name, start, stop), from the transitions."""
    edges = [(at_s, event) for at_s, event in recording.transitions if at_s > 0]
    spans, start, phase = [], 0.0, "decode"
    for at_s, event in edges:
        spans.append((phase, start, at_s))
        start, phase = at_s, event.to.value
    spans.append((phase, start, recording.seconds))
    return spans
