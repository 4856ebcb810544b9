"""The protocol of a mode: one way in which a worker serves a model.

The server knows a mode by this protocol alone. It prepares and starts one, serves what
:meth:`Mode.start` returns over vLLM's OpenAI API, and reports what :meth:`Mode.state` returns. To
add a mode, implement the protocol in a folder of its own and name it in
:mod:`seesaw_worker.modes.choose`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import CollectorRegistry

from seesaw_core.errors import EngineDiedError
from seesaw_core.messages import (
    ElasticState,
    ReshardingState,
    StaticState,
    TimelineEvent,
    TransitionEvent,
    WaveEvent,
)
from seesaw_worker.processes.liveness import WatchedClient

Event = TransitionEvent | WaveEvent | TimelineEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeState:
    """What a mode contributes to the worker's state.

    ``part`` is None for a mode of which the state holds nothing but the name.
    """

    num_waiting: int = 0
    waiting_tokens: int = 0
    part: ReshardingState | StaticState | ElasticState | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What a mode calls, from the event loop of :meth:`Mode.start`.

    ``report`` takes a line for the log, which is also the detail of the worker's stage until the
    worker serves, ``publish`` an event for the worker's event stream.
    ``on_death`` is called once, when the mode can no longer serve.
    """

    report: Callable[[str], None]
    publish: Callable[[Event], None]
    on_death: Callable[[EngineDiedError], None]


class ModeClient(WatchedClient, Protocol):
    """What the server needs of a mode's engine client, beyond vLLM's ``EngineClient``.

    :class:`seesaw_worker.modes.client.WatchedLLM` implements it for engines of vLLM. The server
    sets ``is_stalled``.
    """

    is_stalled: bool
    errored: bool
    dead_error: BaseException

    async def get_supported_tasks(self) -> tuple[str, ...]: ...
    def fail(self) -> None: ...
    def shutdown(self, timeout: float | None = None) -> None: ...


class Mode(Protocol):
    """One way in which a worker serves a model.

    Call order: :meth:`prepare`, then :meth:`start`, each once and from one event loop; then
    :meth:`close`. :meth:`close` may be called at any time, more than once and from any thread.
    :meth:`state`, :meth:`refresh` and :attr:`progress` may be called at any time.
    """

    name: str
    summary: str

    @property
    def progress(self) -> str:
        """The progress of loading, for people; empty if it is unknown."""

    def register(self, registry: CollectorRegistry) -> None:
        """Register the mode's metrics. Called once, before :meth:`prepare`."""

    def refresh(self) -> None:
        """Update the metrics. Called before each scrape."""

    async def prepare(self, hooks: Hooks) -> None:
        """Check all that can be checked before the model is loaded. Raises: InputError."""

    async def start(self, hooks: Hooks) -> ModeClient:
        """Load the model. Raises: InputError; the error of an engine that cannot start."""

    def state(self) -> ModeState:
        """Return the mode's part of the worker's state."""

    def close(self) -> None:
        """Remove the mode's files and shared memory. Engines may still run."""
