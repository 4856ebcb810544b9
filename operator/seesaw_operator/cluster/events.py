"""What the Events of an object say is wrong with it now. Pure."""

import re
from collections.abc import Iterable
from typing import Any

# Events after which what was wrong with a pod, or with making one, is over.
_FURTHER = ("Pulling", "Pulled", "Created", "Started", "SuccessfulCreate")
# Warnings that keep no pod from being made, or are told by its conditions.
_MADE_POD = re.compile(r"create Pod (\S+) in StatefulSet ")
_PASSED = ("FailedScheduling", "RecreatingFailedPod", "RecreatingTerminatedPod")


def last_warning(events: Iterable[dict[str, Any]]) -> str | None:
    """What is wrong with an object now, by its events: the latest warning, if the object has not
    come further since. That a pod had no node is not told: its own conditions do."""
    further: dict[str, str] = {}
    warnings: list[tuple[str, str, str]] = []
    for event in events:
        time, reason = _last_seen(event), str(event.get("reason"))
        text = str(event.get("message") or reason)
        # A StatefulSet's events are about several pods: one that was made says nothing of another.
        about = match[1] if (match := _MADE_POD.match(text)) else ""
        if reason in _FURTHER:
            further[about] = max(further.get(about, ""), time)
        elif event.get("type") == "Warning" and reason not in _PASSED:
            warnings.append((time, text, about))
    still = [each for each in warnings if each[0] >= further.get(each[2], "")]
    return max(still, key=lambda each: each[0])[1] if still else None


def _last_seen(event: dict[str, Any]) -> str:
    """To the second, which is all that some events tell."""
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return max((time or "")[: len("2026-01-01T00:00:00")] for time in times)
