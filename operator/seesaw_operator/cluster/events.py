"""What is wrong with an object now, according to its Events. Pure."""

import re
from collections.abc import Iterable
from typing import Any

# Events that end a problem with a pod, or with its creation.
_PROGRESS = ("Pulling", "Pulled", "Created", "Started", "SuccessfulCreate")
# Kubernetes names the pod of such an Event in no field, only in the message.
_MADE_POD = re.compile(r"create Pod (\S+) in StatefulSet ")
# Warnings that do not keep a pod from being created, or that its conditions report.
_IGNORED = ("FailedScheduling", "RecreatingFailedPod", "RecreatingTerminatedPod")


def last_warning(events: Iterable[dict[str, Any]]) -> str | None:
    """Return the latest warning about an object, if the object has made no progress since.

    That a pod has no node is left out: the pod's conditions say so.
    """
    further: dict[str, str] = {}
    warnings: list[tuple[str, str, str]] = []
    for event in events:
        time, reason = _last_seen(event), str(event.get("reason"))
        text = str(event.get("message") or reason)
        # Events of a StatefulSet are about several pods, each of which has its own progress.
        about = match[1] if (match := _MADE_POD.match(text)) else ""
        if reason in _PROGRESS:
            further[about] = max(further.get(about, ""), time)
        elif event.get("type") == "Warning" and reason not in _IGNORED:
            warnings.append((time, text, about))
    still = [each for each in warnings if each[0] >= further.get(each[2], "")]
    return max(still, key=lambda each: each[0])[1] if still else None


def _last_seen(event: dict[str, Any]) -> str:
    """Return the time of an Event, to the second: some Events are no more precise."""
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return max((time or "")[: len("2026-01-01T00:00:00")] for time in times)
