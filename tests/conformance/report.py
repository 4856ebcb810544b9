"""What a run found: a table for people, a document for programs."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any, Final

from conformance.differences import Difference, Explained

_WIDTH: Final = 70


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A finished run: its differences, and the explanations that no difference needs."""

    num_rows: int
    num_asked: int
    subjects: tuple[str, ...]
    found: tuple[Difference, ...]
    stale: tuple[Explained, ...]
    explained: tuple[Explained, ...]

    @property
    def unexplained(self) -> list[Difference]:
        return [d for d in self.found if not self.reason(d)]

    @property
    def has_passed(self) -> bool:
        return not self.unexplained and not self.stale and self.num_rows == self.num_asked

    def reason(self, difference: Difference) -> str:
        """Why a difference is right, or an empty string."""
        return next((e.reason for e in self.explained if e.covers(difference)), "")

    def summary(self) -> str:
        """One line."""
        num_explained = len(self.found) - len(self.unexplained)
        return (
            f"{self.num_rows} of {self.num_asked} rows on {', '.join(self.subjects)}: "
            f"{len(self.unexplained)} unexplained differences, {num_explained} explained, "
            f"{len(self.stale)} stale explanations"
        )

    def document(self) -> dict[str, Any]:
        """Everything, for programs."""
        return {
            "rows": self.num_rows,
            "subjects": list(self.subjects),
            "passed": self.has_passed,
            "unexplained": [dataclasses.asdict(d) for d in self.unexplained],
            "explained": [
                dataclasses.asdict(d) | {"reason": reason}
                for d in self.found
                if (reason := self.reason(d))
            ],
            "stale": [dataclasses.asdict(e) for e in self.stale],
        }

    def markdown(self) -> str:
        """Unexplained differences, stale explanations, then the explained ones by reason."""
        lines = [f"# {self.summary()}", "", "## Unexplained", ""]
        lines += _table(self.unexplained)
        lines += ["", "## Stale explanations", ""]
        lines += [f"- {e.subject} {e.row} {e.where}: {e.reason}" for e in self.stale] or ["None."]
        lines += ["", "## Explained", ""]
        by_reason: dict[str, list[Difference]] = {}
        for d in self.found:
            if reason := self.reason(d):
                by_reason.setdefault(reason, []).append(d)
        for reason, covered in by_reason.items():
            rows = sorted({d.row for d in covered})
            shown = ", ".join(f"`{row}`" for row in rows[:5])
            more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
            lines.append(f"- {reason} ({len(covered)} places: {shown}{more})")
        return "\n".join(lines) + "\n"

    def json(self) -> str:
        return json.dumps(self.document(), indent=1) + "\n"


def _table(found: Sequence[Difference]) -> list[str]:
    if not found:
        return ["None."]
    lines = ["| row | where | plain vLLM | found | on |", "| --- | --- | --- | --- | --- |"]
    by_place: dict[tuple[str, str, str, str], list[str]] = {}
    for d in found:
        by_place.setdefault((d.row, d.where, d.plain, d.found), []).append(d.subject)
    for (row, where, plain, other), subjects in by_place.items():
        cells = (row, where, plain, other, ", ".join(subjects))
        lines.append("| " + " | ".join(_cell(c) for c in cells) + " |")
    return lines


def _cell(text: str) -> str:
    text = text.encode("utf-8", "backslashreplace").decode().replace("|", "\\|")
    text = " ".join(text.split())
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"
