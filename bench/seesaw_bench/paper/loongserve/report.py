"""The tables of LoongServe's study, ours beside the paper's, and what they must show."""

from collections.abc import Iterable

from seesaw_bench.paper.loongserve.study import ABLATION, DATASETS, Outcome, Row

Outcomes = dict[tuple[str, str], Outcome]
Checks = list[tuple[str, str, bool]]

# The ratios that the paper's abstract and summary state: elastic to another system on a dataset.
RATIOS = (("ShareGPT", "vLLM 0.3"), ("Mixed", "SplitFuse"), ("L-Eval", "DistServe"))
_RATIO_TOLERANCE = 0.15
# Two systems whose rates in the paper differ by less are in either order.
_TIE = 0.10


def tables(outcomes: Outcomes) -> str:
    """Every rate and ratio as Markdown."""
    return "\n\n".join(
        (
            _rates("Requests/s at the latency limit: ours (the paper's)", DATASETS, outcomes),
            _rates("Ablation, requests/s with nine in ten in time", ABLATION, outcomes),
            _ratios(outcomes),
            _checks_table(checks(outcomes)),
        )
    )


def checks(outcomes: Outcomes) -> Checks:
    """Return each target with the result, and whether it is met."""
    found: Checks = []
    for row, other in RATIOS:
        ours, paper = ratio(outcomes, row, other)
        target = f"{row}: elastic to {other} within 15 % of {paper:.2f}×"
        found.append((target, f"{ours:.2f}×", abs(ours / paper - 1) <= _RATIO_TOLERANCE))
    for row_ in (*DATASETS, *ABLATION):
        right = order_is_right(row_, outcomes)
        found.append(
            (f"{row_.name}: order of the systems", " > ".join(_order(row_, outcomes)), right)
        )
    return found


def order_is_right(row: Row, outcomes: Outcomes) -> bool:
    """Whether any two systems are in the paper's order, unless the paper has them side by side."""
    rates = {s: outcomes[row.name, s].per_s or 0.0 for s in row.paper}
    paper = {s: rate or 0.0 for s, rate in row.paper.items()}
    return all(
        rates[one] > rates[two]
        for one in paper
        for two in paper
        if paper[one] > paper[two] * (1 + _TIE)
    )


def ratio(outcomes: Outcomes, row_name: str, other: str) -> tuple[float, float]:
    """Return elastic's rate to another system's: ours and the paper's."""
    row = next(row for row in DATASETS if row.name == row_name)
    ours = (outcomes[row_name, "elastic"].per_s or 0.0) / (outcomes[row_name, other].per_s or 1.0)
    return ours, (row.paper["elastic"] or 0.0) / (row.paper[other] or 1.0)


def _order(row: Row, outcomes: Outcomes) -> list[str]:
    return sorted(row.paper, key=lambda s: -(outcomes[row.name, s].per_s or 0.0))


def _rates(title: str, rows: Iterable[Row], outcomes: Outcomes) -> str:
    lines: list[tuple[str, ...]] = []
    for row in rows:
        if not lines:
            lines.append(("", *row.paper))
        cells = (
            f"{_shown(outcomes[row.name, s].per_s)} ({_shown(paper)})"
            for s, paper in row.paper.items()
        )
        lines.append((row.name, *cells))
    return f"**{title}**\n\n" + markdown(lines)


def _ratios(outcomes: Outcomes) -> str:
    lines: list[tuple[str, ...]] = [("dataset", "elastic to", "paper", "ours")]
    for row in (*DATASETS, *ABLATION):
        for other, paper in row.paper.items():
            ours = outcomes[row.name, other].per_s
            if other != "elastic" and paper and ours:
                elastic = outcomes[row.name, "elastic"].per_s or 0.0
                theirs = (row.paper["elastic"] or 0.0) / paper
                lines.append((row.name, other, f"{theirs:.2f}×", f"{elastic / ours:.2f}×"))
    return "**Gain of elastic instances**\n\n" + markdown(lines)


def _checks_table(found: Checks) -> str:
    rows = [(target, result, "yes" if good else "**no**") for target, result, good in found]
    return "**Targets**\n\n" + markdown([("target", "found", "met"), *rows])


def _shown(per_s: float | None) -> str:
    return "none" if per_s is None else f"{per_s:.3f}"


def markdown(lines: list[tuple[str, ...]]) -> str:
    """A table whose first line is its head."""
    head, *rows = lines
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ("---",) * len(head), *rows))
