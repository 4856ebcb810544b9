"""The report as Markdown."""

from collections import Counter
from collections.abc import Iterable, Sequence

from seesaw_bench.public.predictions import Prediction
from seesaw_bench.public.report import (
    Group,
    Target,
    by_concurrency,
    by_layout,
    counted,
    groups,
    layout_pairs,
    targets,
)
from seesaw_bench.public.rows import Metric

_FAR = 0.25  # rows listed one by one
_ERRORS = ("runs", "mean absolute", "median", "worst")
_WHICH = ("source", "model", "accelerator", "layout")
_HEAD = (*_WHICH, *_ERRORS)
_FAR_HEAD = (*_WHICH, "tokens", "concurrency", "of", "off by")
_ORDER_HEAD = ("devices", "layouts", "published ratio", "ours", "same order")


def report(predictions: Sequence[Prediction]) -> str:
    """Return the whole report: targets, errors by group, and each row that is far off."""
    parts = [_targets(targets(predictions))]
    for metric in Metric:
        rows = counted(predictions, metric)
        if rows:
            found = groups(rows, metric, by_layout)
            parts.append(f"**Errors of {metric.value}**\n\n" + _groups(_HEAD, found))
        if rows and metric is not Metric.THROUGHPUT:
            parts.append(_groups(("concurrency", *_ERRORS), groups(rows, metric, by_concurrency)))
    parts.extend(_rest(predictions))
    return "\n\n".join(parts)


def _targets(found: Iterable[Target]) -> str:
    rows = [(t.name, t.found, "yes" if t.met else "**no**") for t in found]
    return "**Targets**\n\n" + markdown(("target", "found", "met"), rows)


def _rest(predictions: Sequence[Prediction]) -> Iterable[str]:
    if far := list(_far(predictions)):
        yield "**Runs off by more than 25 %**\n\n" + markdown(_FAR_HEAD, far)
    pairs = [
        (
            f"{one.row.title}, {one.row.layout.num_devices} × {one.row.accelerator}",
            f"{one.row.layout} against {other.row.layout}",
            _ratio(one.row.published, other.row.published),
            _ratio(one.values, other.values),
            "yes" if is_right else "**no**",
        )
        for one, other, is_right in layout_pairs(predictions)
    ]
    if pairs:
        yield "**Order of layouts**\n\n" + markdown(_ORDER_HEAD, pairs)
    mixtures = [p for p in predictions if not p.is_dense and Metric.TPOT in p.values]
    if mixtures:
        found = groups(mixtures, Metric.TPOT, by_layout)
        yield "**Mixtures of experts, ms a token (no target)**\n\n" + _groups(_HEAD, found)
    left_out = Counter(p.reason for p in predictions if p.reason)
    if left_out:
        yield "\n".join(f"Left out, {count} runs: {why}." for why, count in left_out.items())


def _far(predictions: Sequence[Prediction]) -> Iterable[tuple[str, ...]]:
    for metric in Metric:
        for p in counted(predictions, metric):
            if abs(p.error(metric)) > _FAR:
                row = p.row
                yield (
                    *by_layout(row),
                    f"{row.prompt_tokens:,}/{row.output_tokens:,}",
                    "" if row.concurrency is None else str(row.concurrency),
                    metric.value,
                    _percent(p.error(metric)),
                )


def _ratio(one: object, other: object) -> str:
    assert isinstance(one, dict)
    assert isinstance(other, dict)
    return f"{one[Metric.THROUGHPUT] / other[Metric.THROUGHPUT]:.2f}"


def _groups(head: tuple[str, ...], found: Iterable[Group]) -> str:
    rows = [
        (
            *g.key,
            str(len(g.errors)),
            f"{100 * g.mean_absolute:.1f} %",
            _percent(g.median),
            _percent(g.worst),
        )
        for g in found
    ]
    return markdown(head, rows)


def _percent(error: float) -> str:
    return f"{100 * error:+.0f} %"


def markdown(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a table."""
    lines = (head, ("---",) * len(head), *rows)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
