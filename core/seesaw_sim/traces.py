"""Traces: requests that came once, as CSV.

In the form of the public Azure LLM inference traces: a header, then a line a request with its
arrival and both lengths.
"""

import csv
import io
from datetime import UTC, datetime

from seesaw_core.errors import InputError
from seesaw_core.workloads import Request

_ARRIVAL = ("arrival_s", "timestamp", "time")
_PROMPT = ("prompt_tokens", "contexttokens", "input_tokens", "request tokens")
_OUTPUT = ("output_tokens", "generatedtokens", "response tokens")


def read_trace(text: str, *, source: str) -> list[Request]:
    """Requests of a CSV trace, in order of arrival, the first at 0 s.

    Columns, by any of their names and in any case: arrival_s or TIMESTAMP (seconds, or a date and
    time, of UTC if it names no zone), prompt_tokens or ContextTokens, and output_tokens or
    GeneratedTokens.
    Raises: InputError naming ``source``, the line, the column and what would be accepted.
    """
    lines = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    names = {n.strip().casefold(): n for n in lines.fieldnames or () if n}
    columns = {}
    for wanted in (_ARRIVAL, _PROMPT, _OUTPUT):
        found = next((names[n] for n in wanted if n in names), None)
        if found is None:
            raise InputError(
                f"{source}: no column {wanted[0]} (or {', '.join(wanted[1:])}); "
                f"the header has {lines.fieldnames or 'nothing'}"
            )
        columns[wanted[0]] = found
    requests = []
    for number, line in enumerate(lines, 2):
        at = f"{source}: line {number}"
        requests.append(
            Request(
                arrival_s=_moment(line.get(columns["arrival_s"]), f"{at}: arrival_s"),
                prompt_tokens=_tokens(line.get(columns["prompt_tokens"]), f"{at}: prompt_tokens"),
                output_tokens=_tokens(line.get(columns["output_tokens"]), f"{at}: output_tokens"),
            )
        )
    if not requests:
        raise InputError(f"{source}: no requests after the header")
    first = min(r.arrival_s for r in requests)
    shifted = [
        Request(
            arrival_s=r.arrival_s - first,
            prompt_tokens=r.prompt_tokens,
            output_tokens=r.output_tokens,
        )
        for r in requests
    ]
    return sorted(shifted, key=lambda r: r.arrival_s)


def _tokens(value: str | None, at: str) -> int:
    if value is None:
        raise InputError(f"{at} is missing; it must be a whole number of at least 1")
    try:
        tokens = int(value)
    except ValueError:
        tokens = 0
    if tokens < 1:
        raise InputError(f"{at}={value!r} must be a whole number of at least 1")
    return tokens


def _moment(value: str | None, at: str) -> float:
    text = (value or "").strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
            seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except ValueError:
            raise InputError(f"{at}={value!r} must be seconds or a date and time") from None
    if not 0 <= seconds < float("inf"):
        raise InputError(f"{at}={value!r} must not be negative")
    return seconds
