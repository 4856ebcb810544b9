"""The picture of the elastic demo: requests as bars over instances, and degrees, over time."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from seesaw_cli.demo.driving import Recording
from seesaw_core.messages import ElasticState, RequestSpan, WorkerState

_COLOURS: Final = {"prefill": "#d95f02", "decode": "#1b9e77", "migrate": "#7570b3"}
_NAMED_TOKENS = 500  # a prompt of at least so many tokens is labelled with its length
_THICK = 0.8


def elastic(state: WorkerState | None) -> ElasticState:
    """Return the elastic part of the worker's state."""
    assert state is not None, "no state was recorded"
    assert state.elastic is not None, state.mode
    return state.elastic


def draw(recording: Recording, path: Path) -> None:
    """Draw what each instance does for which request, the groups' degrees, and the KV in use."""
    os.environ.setdefault("MPLBACKEND", "Agg")
    import matplotlib.pyplot as plt

    figure, (requests, degrees, fill) = plt.subplots(
        3, 1, figsize=(11, 8), sharex=True, height_ratios=(3.2, 1.1, 1.2)
    )
    _draw_requests(requests, recording)
    _draw_degrees(degrees, recording)
    _draw_fill(fill, recording)
    fill.set_xlabel("seconds")
    fill.set_xlim(0, recording.seconds)
    for kind, label in (("prefill", "prefill"), ("decode", "decode: its KV is there")):
        requests.plot([], [], color=_COLOURS[kind], lw=8, label=label)
    requests.legend(loc="upper center", ncols=2, bbox_to_anchor=(0.5, 1.12), frameon=False)
    figure.suptitle("Two elastic instances of one worker, and the requests on each of them")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def rows_of(spans: Iterable[RequestSpan]) -> dict[int, int]:
    """Give each request a row that it shares with none that overlaps it. Returns rows by number."""
    times: dict[int, tuple[float, float]] = {}
    for span in spans:
        began_s, ended_s = times.get(span.number, (span.began_s, span.ended_s))
        times[span.number] = min(began_s, span.began_s), max(ended_s, span.ended_s)
    free_from: list[float] = []
    rows = {}
    for number, (began_s, ended_s) in sorted(times.items(), key=lambda item: item[1]):
        row = next((i for i, free_s in enumerate(free_from) if free_s <= began_s), len(free_from))
        free_from[row : row + 1] = [ended_s]
        rows[number] = row
    return rows


def _draw_requests(axes: Any, recording: Recording) -> None:
    """One lane for each instance; a request has the same row in each of them."""
    spans = [span for event in recording.timelines for span in event.requests]
    rows = rows_of(spans)
    lane = max(rows.values(), default=0) + 2
    num_instances = len(elastic(recording.final).capacity_tokens)
    for span in spans:
        began_s = span.began_s - recording.began_unix_s
        seconds = span.ended_s - span.began_s
        for instance in span.instances:
            y = instance * lane + rows[span.number]
            axes.barh(y, seconds, _THICK, left=began_s, color=_COLOURS[span.kind], lw=0)
            if span.kind == "prefill" and span.num_tokens >= _NAMED_TOKENS:
                text = f" {span.num_tokens:,} tokens"
                axes.text(began_s, y, text, fontsize=7, va="center", color="white")
    for instance in range(1, num_instances):
        axes.axhline(instance * lane - 1, color="grey", lw=0.8)
    axes.set_yticks(
        [(i + 0.5) * lane - 1 for i in range(num_instances)],
        [f"instance {i}" for i in range(num_instances)],
    )
    axes.set_ylim(num_instances * lane - 1, -1)


def _draw_degrees(axes: Any, recording: Recording) -> None:
    """Each group's degree; those of groups that are busy at the same time lie side by side."""
    num_instances = len(elastic(recording.final).capacity_tokens)
    for event in recording.timelines:
        for span in event.groups:
            began_s = span.began_s - recording.began_unix_s
            beside = (min(span.instances) - (num_instances - 1) / 2) * 0.3
            y = len(span.instances) + (beside if len(span.instances) < num_instances else 0)
            axes.barh(
                y, span.ended_s - span.began_s, 0.22, left=began_s, color=_COLOURS[span.kind], lw=0
            )
    axes.set_yticks(range(1, num_instances + 1))
    axes.set_ylim(0.5, num_instances + 0.5)
    axes.set_ylabel("degree by\niteration")


def _draw_fill(axes: Any, recording: Recording) -> None:
    times = [at_s for at_s, _ in recording.samples]
    parts = [elastic(state) for _, state in recording.samples]
    for instance, capacity in enumerate(parts[0].capacity_tokens):
        used = [100 * (1 - part.free_tokens[instance] / max(1, capacity)) for part in parts]
        axes.step(times, used, where="post", label=f"instance {instance}")
    axes.set_ylabel("KV in use, %")
    axes.set_ylim(0, 105)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
