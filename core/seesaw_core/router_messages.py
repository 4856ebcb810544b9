"""What a router reports: the answer of its ``/seesaw/state``.

The rules are those of a worker's messages (:mod:`seesaw_core.messages`): readers ignore unknown
fields, and a field that a later version adds has a default. Version 0 is that of routers whose
answer had no version.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

from seesaw_core.resharding.policy import Phase
from seesaw_core.routing.ejection import Standing

VERSION: Final = 1


class WorkerKind(StrEnum):
    """What a server behind a router is, by the routes that it answers."""

    SEESAW = "seesaw"
    STATIC = "static"  # such as plain vLLM: it reports no state


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutedWorker:
    """One worker as a router knows it."""

    name: Annotated[str, "Its pod and port, or its URL."]
    url: Annotated[str, "Where the router sends requests."]
    kind: Annotated[WorkerKind, "`seesaw`, or `static` for a server without `/seesaw/events`."]
    serving: Annotated[bool, "Whether it takes requests."]
    reason: Annotated[str, "Why it takes none; empty if it does."]
    going: Annotated[bool, "Whether it finishes what it has and then ends."]
    standing: Annotated[Standing, "`full`, `ejected`, `probing` or `returning`."]
    ejected: Annotated[str | None, "Why its standing is not `full`, else null."]
    running: Annotated[int, "Requests that were sent to it and have not ended."]
    mode: Annotated[str, "Its mode; empty from a router of version 0."] = ""
    phase: Annotated[Phase | None, "`prefill` or `decode`; null if it has no phases."]
    capacity_tokens: Annotated[
        int | None, "Tokens whose KV an elastic worker can keep; null for other workers."
    ] = None
    free_tokens: Annotated[int | None, "Those for which it has room, by its last state."] = None
    queued_tokens: Annotated[
        int | None, "Tokens of prompts that wait there, or that were sent since its last state."
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterState:
    """One router at one moment: what its ``/seesaw/state`` returns."""

    version: Annotated[
        int, "Version of this message. Readers take any, and ignore unknown fields."
    ] = 0
    queued: Annotated[int, "Requests that wait for a worker."]
    last_step: Annotated[str, "Why prompts were last released or held."]
    workers: Annotated[tuple[RoutedWorker, ...], "All workers that it knows."]
