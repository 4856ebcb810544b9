"""What the Events of an object say is wrong with it now. Pure."""

from collections.abc import Iterable
from typing import Any

# Events after which what was wrong with a pod, or with making one, is over.
_FURTHER = ("Pulling", "Pulled", "Created", "Started", "SuccessfulCreate")
# Warnings that keep no pod from being made, or are told by its conditions.
_PASSED = ("FailedScheduling", "RecreatingFailedPod", "RecreatingTerminatedPod")


def last_warning(events: Iterable[dict[str, Any]]) -> str | None:
    """What is wrong with an object now, by its events: the latest warning, if the object has not
    come further since. That a pod had no node is not told: its own conditions do."""
    warning, further = "", ""
    said = None
    for event in events:
        time, reason = _last_seen(event), str(event.get("reason"))
        if reason in _FURTHER:
            further = max(further, time)
        elif event.get("type") == "Warning" and reason not in _PASSED and time >= warning:
            warning, said = time, str(event.get("message") or reason)
    return said if warning >= further else None


def _last_seen(event: dict[str, Any]) -> str:
    """To the second, which is all that some events tell."""
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return max((time or "")[: len("2026-01-01T00:00:00")] for time in times)
