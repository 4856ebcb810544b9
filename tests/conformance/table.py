"""All rows of the matrix, and how some of them are chosen."""

import fnmatch
from collections import Counter

from conformance.differences import literal
from conformance.rows import Row
from conformance.tables import bodies, completions, fields, responses, routes


def all_rows() -> tuple[Row, ...]:
    """Every row, in the order in which they run. Names are unique."""
    tables = (completions, responses, fields, bodies, routes)
    rows = tuple(row for table in tables for row in table.rows())
    twice = [name for name, count in Counter(row.name for row in rows).items() if count > 1]
    assert not twice, f"rows of the same name: {twice}"
    return rows


def chosen(patterns: list[str], *, is_short: bool) -> tuple[Row, ...]:
    """Rows whose name matches any pattern, or all rows if there is none."""
    rows = [row for row in all_rows() if row.is_short or not is_short]
    if patterns:
        rows = [
            row for row in rows if any(fnmatch.fnmatchcase(row.name, literal(p)) for p in patterns)
        ]
    return tuple(rows)
