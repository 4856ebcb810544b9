"""The tables of the benchmark of elastic instances, and the targets."""

from collections.abc import Iterator

from seesaw_bench.elastic.run import Measured, degrees
from seesaw_bench.worker.spread import Spread
from seesaw_bench.worker.tables import Table, target_table
from seesaw_bench.worker.targets import Target

_MS = 1e3


def tables(measured: Measured) -> list[Table]:
    """Return the tables of what was measured, in reading order."""
    parts = (_ttft, _fit, _beside, _steps, _overhead)
    found = [target_table(targets(measured)), *(part(measured) for part in parts)]
    return [table for table in found if table.rows]


def targets(measured: Measured) -> list[Target]:
    """Return every ratio that has a target, as far as it was measured."""
    return list(_compared(measured))


def _compared(measured: Measured) -> Iterator[Target]:
    figures, ratio = measured.figures, measured.ratio
    tokens = measured.workload.long_prompt
    if f"ttft.{tokens}.degree1" in figures:
        yield Target(
            name="degree_2",
            title=f"prefill of {tokens:,} tokens, degree 1 / degree 2",
            ratio=ratio(f"ttft.{tokens}.degree1", f"ttft.{tokens}.degree2"),
            bound=1.7,
        )
        yield Target(
            name="fit",
            title="prefill, worst error of the fitted T(R)",
            ratio=Spread.of([max(abs(error) for *_, error in _errors(measured))]),
            bound=0.1,
            at_most=True,
        )
    for name in (*(f"decode{b}" for b in measured.workload.batches), "prefill"):
        if f"overhead.elastic.{name}" in figures:
            yield Target(
                name=name,
                title=f"{name.replace('decode', 'decode, batch ')}, degree 1 / plain vLLM",
                ratio=ratio(f"overhead.elastic.{name}", f"overhead.plain.{name}"),
                bound=1.02,
                at_most=True,
            )
    if "divide" in figures:
        yield Target(
            name="divide",
            title="200 prompts divided over 16 instances, ms",
            ratio=Spread.of(_MS * s for s in figures["divide"]),
            bound=5.0,
            at_most=True,
        )


def break_even_tokens(measured: Measured) -> int | None:
    """Return the shortest prompt from which degree 2 is faster; None if there is none."""
    shortest = None
    for tokens in sorted(measured.workload.lengths, reverse=True):
        if measured.ratio(f"ttft.{tokens}.degree1", f"ttft.{tokens}.degree2").median <= 1:
            break
        shortest = tokens
    return shortest


def _ttft(measured: Measured) -> Table:
    names = [*(f"degree{d}" for d in degrees(measured)), "plain", "tensor"]
    lengths = [n for n in measured.workload.lengths if f"ttft.{n}.plain" in measured.figures]
    rows = [
        (f"{n:,}", *(measured.spread(f"ttft.{n}.{name}").show(_MS, 0) for name in names))
        for n in lengths
    ]
    notes: tuple[str, ...] = ()
    if rows:
        found = break_even_tokens(measured)
        text = f"from {found:,} tokens on" if found else "for none of these lengths"
        notes = (f"Degree 2 is faster than degree 1 {text}.",)
    header = (
        "tokens",
        *(f"degree {d}" for d in degrees(measured)),
        "vLLM, one core",
        f"vLLM, T{measured.instances}",
    )
    return Table(title="Time to the first token, ms", header=header, rows=rows, notes=notes)


def _errors(measured: Measured) -> Iterator[tuple[int, int, float, float, float]]:
    """Yield length, degree, predicted and measured seconds, and the error as a share."""
    for tokens in measured.workload.lengths:
        for degree in degrees(measured):
            name = f"ttft.{tokens}.degree{degree}"
            if name in measured.figures and degree in measured.costs:
                predicted_s = measured.costs[degree].seconds([tokens])
                found_s = measured.spread(name).median
                yield tokens, degree, predicted_s, found_s, predicted_s / found_s - 1


def _fit(measured: Measured) -> Table:
    return Table(
        title="The fitted T(R): prefill iterations",
        header=("tokens", "degree", "predicted, ms", "measured, ms", "error"),
        rows=[
            (f"{n:,}", str(d), f"{_MS * p:,.0f}", f"{_MS * m:,.0f}", f"{100 * e:+.0f} %")
            for n, d, p, m, e in _errors(measured)
        ],
        notes=("Predicted from what the worker measures at its start; measured by the client.",),
    )


def _beside(measured: Measured) -> Table:
    titles = {"elastic": "elastic instances", "tensor": f"plain vLLM, T{measured.instances}"}

    def row(kind: str, name: str) -> tuple[str, ...]:
        parts = ("token_s", "longest_gap_s", "first_token_s", "long_s")
        return (
            f"{titles[kind]}, {name}",
            *(measured.spread(f"{name}.{kind}.{part}").show(_MS, 0) for part in parts),
        )

    return Table(
        title="Short requests alone and beside a long prefill, ms",
        header=("engine", "a token", "longest gap", "first token", "the long prompt"),
        rows=[
            row(kind, name)
            for kind in titles
            for name in ("alone", "beside")
            if f"{name}.{kind}.token_s" in measured.figures
        ],
    )


def _steps(measured: Measured) -> Table:
    rows = []
    name = f"down: prefill of {measured.workload.long_prompt:,} tokens at degree 2"
    pairs = [("steps.down.keep1", "steps.down.keep2", name)]
    for batch in measured.workload.batches:
        name = f"up: decode of {batch}"
        pairs.append((f"steps.up.keep2.batch{batch}", f"steps.up.keep1.batch{batch}", name))
    for above, below, name in pairs:
        if above in measured.figures:
            rows.append(
                (
                    name,
                    measured.spread(above).show(_MS, 1),
                    measured.spread(below).show(_MS, 1),
                    measured.ratio(above, below).show(digits=2),
                )
            )
    return Table(
        title="Scaling steps, ms",
        header=("step", "scaled", "plain", "ratio"),
        rows=rows,
        notes=(
            "Down: a prefill whose KV ends on one instance, beside one whose KV stays on both.",
            "Up: a decode iteration over KV on two instances, beside one over KV on one.",
        ),
    )


def _overhead(measured: Measured) -> Table:
    parts = (*(f"decode{batch}" for batch in measured.workload.batches), "prefill")
    titles = {"prefill": "prefill of 128 tokens"}
    return Table(
        title="Degree 1 beside plain vLLM on one core, ms",
        header=("iteration", "elastic", "plain vLLM"),
        rows=[
            (
                titles.get(part, part.replace("decode", "decode, batch ")),
                *(
                    measured.spread(f"overhead.{kind}.{part}").show(_MS)
                    for kind in ("elastic", "plain")
                ),
            )
            for part in parts
            if f"overhead.elastic.{part}" in measured.figures
        ],
    )
