"""Differences from plain vLLM that are meant, each with its reason.

One that explains nothing any more fails the run, so that the list only ever says what is so.
"""

from typing import Final

from conformance.differences import Explained

EXPLAINED: Final[tuple[Explained, ...]] = (
    *(
        Explained(
            subject=subject,
            row="*",
            where="*system_fingerprint",
            reason="vLLM makes the fingerprint of the layout and of the engine's configuration, "
            "and the worker's decode engine has another layout",
        )
        for subject in ("worker", "router")
    ),
    *(
        Explained(
            subject=subject,
            row=f"route/{method} /{path}",
            where="*",
            reason="the router answers for itself: its health and its metrics are not a worker's",
        )
        for subject in ("router", "static")
        for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW")
        for path in ("health", "metrics")
        if path == "metrics" or method != "HEAD"
    ),
)
