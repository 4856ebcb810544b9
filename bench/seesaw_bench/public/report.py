"""Errors of our predictions by group, and the project's targets for them."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import mean, median
from typing import Any

from seesaw_bench.public.predictions import Prediction
from seesaw_bench.public.rows import Metric, Row

_MOST = {Metric.TPOT: 0.10, Metric.TTFT: 0.25, Metric.THROUGHPUT: 0.10}
_MOST_OF_A_GROUP = 0.15  # the median of time per output token
_MOST_OF_A_CELL = 0.25  # of throughput
Key = Callable[[Row], tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One bound, what was found, and whether it is met."""

    name: str
    found: str
    met: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Errors of the rows that have the same key. Errors are shares, signed."""

    key: tuple[str, ...]
    errors: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.errors)

    @property
    def mean_absolute(self) -> float:
        return mean(map(abs, self.errors))

    @property
    def worst(self) -> float:
        return max(self.errors, key=abs)


def by_layout(row: Row) -> tuple[str, ...]:
    return row.harness.name, row.title, row.accelerator, str(row.layout)


def by_concurrency(row: Row) -> tuple[str, ...]:
    return (f"{row.concurrency:4}",)


def counted(predictions: Iterable[Prediction], metric: Metric) -> list[Prediction]:
    """Return those with an error that counts: dense models for latency, all for throughput."""
    return [
        p
        for p in predictions
        if metric in p.values
        and not p.row.harness.is_order_only
        and (p.is_dense or metric is Metric.THROUGHPUT)
    ]


def groups(predictions: Iterable[Prediction], metric: Metric, key: Key) -> list[Group]:
    """Return the groups by key, in order."""
    found: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for p in predictions:
        found[key(p.row)].append(p.error(metric))
    return [Group(key=each, errors=tuple(errors)) for each, errors in sorted(found.items())]


def targets(predictions: Sequence[Prediction]) -> list[Target]:
    """Hold the predictions against the targets. A target without rows is left out."""
    found = []
    for metric, most in _MOST.items():
        rows = counted(predictions, metric)
        if not rows:
            continue
        error = mean(abs(p.error(metric)) for p in rows)
        found.append(
            Target(
                name=f"{metric.value}: mean absolute error at most {100 * most:.0f} %",
                found=f"{100 * error:.1f} % of {len(rows)}",
                met=error <= most,
            )
        )
    if rows := counted(predictions, Metric.TPOT):
        found.append(_group_target(groups(rows, Metric.TPOT, by_layout)))
    if rows := counted(predictions, Metric.THROUGHPUT):
        errors = [p.error(Metric.THROUGHPUT) for p in rows]
        found.append(
            Target(
                name=f"{Metric.THROUGHPUT.value}: none off by more than "
                f"{100 * _MOST_OF_A_CELL:.0f} %",
                found=f"{sum(abs(e) > _MOST_OF_A_CELL for e in errors)} of {len(errors)}, the "
                f"worst by {100 * max(errors, key=abs):+.0f} %",
                met=all(abs(e) <= _MOST_OF_A_CELL for e in errors),
            )
        )
    if pairs := list(layout_pairs(predictions)):
        right = sum(is_right for _, _, is_right in pairs)
        found.append(
            Target(
                name="order of two layouts of the same devices",
                found=f"{right} of {len(pairs)}",
                met=right == len(pairs),
            )
        )
    return found


def _group_target(found: Sequence[Group]) -> Target:
    off = [g for g in found if abs(g.median) > _MOST_OF_A_GROUP]
    worst = max(found, key=lambda g: abs(g.median))
    return Target(
        name=f"{Metric.TPOT.value}: no group's median off by more than "
        f"{100 * _MOST_OF_A_GROUP:.0f} %",
        found=f"{len(off)} of {len(found)}, the worst by {100 * worst.median:+.0f} %",
        met=not off,
    )


def layout_pairs(
    predictions: Iterable[Prediction],
) -> Iterator[tuple[Prediction, Prediction, bool]]:
    """Yield pairs that differ in the layout of equally many devices, and if ours order them so."""
    alike: dict[tuple[object, ...], list[Prediction]] = defaultdict(list)
    for p in predictions:
        row = p.row
        if Metric.THROUGHPUT in p.values:
            lengths = row.prompt_tokens, row.output_tokens
            devices = row.accelerator, row.layout.num_devices
            alike[row.harness.name, row.title, *devices, *lengths].append(p)
    for same in alike.values():
        for one, other in combinations(same, 2):
            if one.row.layout != other.row.layout:
                published, ours = (
                    each(one) > each(other)
                    for each in (_published_throughput, _predicted_throughput)
                )
                yield one, other, published == ours


def _published_throughput(p: Prediction) -> float:
    return p.row.published[Metric.THROUGHPUT]


def _predicted_throughput(p: Prediction) -> float:
    return p.values[Metric.THROUGHPUT]


def as_json(predictions: Iterable[Prediction]) -> dict[str, Any]:
    """Return every row, published and predicted, and the targets."""
    listed = list(predictions)
    return {
        "targets": [{"name": t.name, "found": t.found, "met": t.met} for t in targets(listed)],
        "rows": [_row_json(p) for p in listed],
    }


def _row_json(p: Prediction) -> dict[str, Any]:
    row = p.row
    return {
        "source": row.harness.name,
        "model": row.title,
        "accelerator": row.accelerator,
        "layout": str(row.layout),
        "prompt_tokens": row.prompt_tokens,
        "output_tokens": row.output_tokens,
        "concurrency": row.concurrency,
        "is_dense": p.is_dense,
        "published": {metric.value: value for metric, value in row.published.items()},
        "predicted": {metric.value: value for metric, value in p.values.items()},
        "reason": p.reason,
    }
