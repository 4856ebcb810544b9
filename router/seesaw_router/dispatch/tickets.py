"""A request's place in the queue, the worker it gets, and why it may get none."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from seesaw_core.errors import RetryError
from seesaw_core.routing.waves import Prompt
from seesaw_router.dispatch.backend import Backend


class QueueFullError(RetryError):
    """Too many requests wait; the client should retry after ``retry_after_s`` seconds."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("too many requests wait")
        self.retry_after_s = retry_after_s


class NoWorkerError(RetryError):
    """No worker serves, or none has for too long; the client may retry later."""

    def __init__(self, why: str, waited_s: float = 0.0) -> None:
        since = f"has served for {waited_s:.0f} s" if round(waited_s) else "serves"
        super().__init__(f"no worker {since}: {why}")


@dataclass(slots=True, kw_only=True)  # one a request: freezing it would triple its cost
class Placed:
    """The worker of a request, which counts as running there until this context ends.

    ``is_trial``: the request tries an ejected worker. ``is_pinned``: some other workers could
    not take the request, so that its outcome does not compare the worker with them.
    """

    backend: Backend
    end: Callable[[], None]
    is_trial: bool = False
    is_pinned: bool = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


@dataclass(slots=True, kw_only=True)
class Ticket:
    """One request in the queue, named by ``prompt.id``.

    prompt: the part that the wave policy sees. avoid: workers that have failed the request.
    """

    prompt: Prompt
    enqueued_s: float
    avoid: frozenset[str]
    granted: "asyncio.Future[Placed]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
