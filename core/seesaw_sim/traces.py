"""Reads traces of recorded requests, as CSV or JSON lines.

The reader knows the published forms of Azure (dates and times), BurstGPT (seconds) and Mooncake
(milliseconds, JSON lines), and any other with such columns. The names of the columns tell the form.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from seesaw_core.errors import InputError
from seesaw_core.planner.workloads import Request

MOST_REQUESTS = 1_000_000  # two minutes of simulation (``seesaw bench simulator``)
_ROWS_BETWEEN_CALLS = 10_000  # a fraction of a second of reading
_MOST_TIME = 1e20  # nanoseconds since 1970 in the year 5138
_MOST_TOKENS = 10**9 - 1  # far above any model's context, far below what floats count exactly
_ARRIVAL = ("arrival_s", "arrival_ms", "timestamp_ms", "timestamp", "created_time", "time")
_PROMPT = ("prompt_tokens", "contexttokens", "input_tokens", "request tokens", "input_length")
_OUTPUT = ("output_tokens", "generatedtokens", "response tokens", "output_length")
_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
TIME_UNITS = ("auto", *_UNITS)
_IN_WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
# In seconds since 1970, 1e11 would be the year 5138: a larger number counts smaller units.
_EPOCHS = ((1e17, "ns"), (1e14, "us"), (1e11, "ms"))
_WANTED = {"arrival_s": _ARRIVAL, "prompt_tokens": _PROMPT, "output_tokens": _OUTPUT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Requests in order of arrival, the first at 0 s. ``notes`` state how they were read."""

    requests: list[Request]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    at: str
    values: Mapping[str, Any]


def read_trace(
    text: str,
    *,
    source: str,
    time_unit: str = "auto",
    on_rows: Callable[[int], None] = lambda _: None,
) -> Trace:
    """Read a trace. Each field may have any of its names, in upper or lower case.

    A number in ``arrival_s`` or ``timestamp`` counts seconds, and milliseconds in ``arrival_ms`` or
    beside ``input_length``, unless ``time_unit`` is set. A date and time without a zone is in UTC.
    Requests without prompt or output tokens have failed, and are left out. ``on_rows`` is called
    now and then with the number of rows read.
    Raises: InputError naming ``source``, the line, the field, its value and what is accepted.
    """
    text = text.removeprefix("\ufeff")
    is_lines = text.lstrip().startswith("{")
    arrivals, left_out, units = [], 0, set()
    columns: dict[str, str] | None = None
    rows = _json_rows(text, source) if is_lines else _csv_rows(text, source)
    for number, row in enumerate(rows):
        if number % _ROWS_BETWEEN_CALLS == 0:
            on_rows(number)
        names = {str(n).strip().casefold(): n for n in row.values if n}
        if columns is None or is_lines:
            columns = {w: _column(w, names, row.at if is_lines else source) for w in _WANTED}
        given = {w: row.values.get(names.get(c, c)) for w, c in columns.items()}
        prompt = _tokens(given["prompt_tokens"], f"{row.at}: prompt_tokens")
        output = _tokens(given["output_tokens"], f"{row.at}: output_tokens")
        arrival, unit = _moment(given["arrival_s"], columns, time_unit, f"{row.at}: arrival_s")
        if not prompt or not output:
            left_out += 1
            continue
        units.add(unit)
        arrivals.append((arrival, prompt, output))
        if len(arrivals) > MOST_REQUESTS:
            raise InputError(
                f"{source} has more than {MOST_REQUESTS:,} requests; cut it to so many lines"
            )
    if not arrivals:
        what = f"{left_out} requests, all without prompt or output" if left_out else "no requests"
        raise InputError(f"{source}: {what}; it needs requests with at least 1 token of both")
    if len(units) > 1:
        raise InputError(
            f"{source}: arrival times in {' and '.join(sorted(units))}; --trace-time-unit sets one "
            "unit for all"
        )
    return _trace(arrivals, left_out, units.pop())


def _trace(arrivals: list[tuple[float, int, int]], left_out: int, unit: str) -> Trace:
    arrivals.sort(key=lambda each: each[0])
    first, last = arrivals[0][0], arrivals[-1][0]
    requests = [
        Request(arrival_s=arrival - first, prompt_tokens=prompt, output_tokens=output)
        for arrival, prompt, output in arrivals
    ]
    notes = [f"trace: arrival times in {unit}, over {last - first:,.0f} s"]
    if left_out:
        notes.append(f"trace: {left_out:,} requests without prompt or output tokens are left out")
    return Trace(requests=requests, notes=tuple(notes))


def _csv_rows(text: str, source: str) -> Iterator[_Row]:
    lines = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
    try:
        names = {n.strip().casefold() for n in lines.fieldnames or () if n}
        for wanted, others in _WANTED.items():
            if not names & set(others):
                raise InputError(
                    f"{source}: no column {wanted} (or {', '.join(others[1:])}); the header has "
                    f"{str(lines.fieldnames or 'nothing')[:200]}"
                )
        for line in lines:
            yield _Row(at=f"{source}: line {lines.line_num}", values=line)
    except csv.Error as error:
        raise InputError(f"{source}: line {lines.line_num}: {error}; it must be CSV") from error


def _json_rows(text: str, source: str) -> Iterator[_Row]:
    for number, line in enumerate(io.StringIO(text), 1):
        if not line.strip():
            continue
        at = f"{source}: line {number}"
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{at} is not JSON ({error}): one object a line") from error
        if not isinstance(values, dict):
            raise InputError(f"{at}={line.strip()[:60]!r} must be an object")
        yield _Row(at=at, values=values)


def _column(wanted: str, names: Mapping[str, str], at: str) -> str:
    column = next((n for n in _WANTED[wanted] if n in names), None)
    if column is None:
        others = ", ".join(_WANTED[wanted][1:])
        raise InputError(f"{at}: no field {wanted} (or {others}); it has {str(list(names))[:200]}")
    return column


def _tokens(value: Any, at: str) -> int:
    """Read a whole number of at least 0, which may be written as 30.0."""
    if value is None:
        raise InputError(f"{at} is missing; it must be a whole number")
    try:
        tokens = float(value) if not isinstance(value, bool | list | dict) else -1.0
    except ValueError:
        tokens = -1.0
    if not 0 <= tokens <= _MOST_TOKENS or tokens != int(tokens):
        raise InputError(
            f"{at}={str(value)[:60]!r} must be a whole number from 0 to {_MOST_TOKENS}"
        )
    return int(tokens)


def _moment(value: Any, columns: Mapping[str, str], unit: str, at: str) -> tuple[float, str]:
    """Return a time in seconds, and the unit in which it was written."""
    text = "" if value is None or isinstance(value, bool) else str(value).strip()
    try:
        number = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise InputError(
                f"{at}={str(value)[:60]!r} must be seconds or a date and time"
            ) from None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return moment.timestamp(), "dates and times"
    if not 0 <= number <= _MOST_TIME:
        raise InputError(f"{at}={str(value)[:60]!r} must be a number from 0 to {_MOST_TIME:g}")
    if unit == "auto":
        unit = _unit_of(number, columns)
    return number * _UNITS[unit], _IN_WORDS[unit]


def _unit_of(number: float, columns: Mapping[str, str]) -> str:
    arrival = columns["arrival_s"]
    if arrival == "arrival_s":
        return "s"
    since_1970 = next((unit for least, unit in _EPOCHS if number >= least), None)
    if since_1970 is not None:
        return since_1970
    is_mooncake = "input_length" in columns.values() or "output_length" in columns.values()
    return "ms" if arrival.endswith("_ms") or is_mooncake else "s"
