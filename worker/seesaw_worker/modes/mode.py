"""The protocol of a mode: one way in which a worker serves a model.

The server knows a mode by this protocol alone. It prepares and starts one, serves what
:meth:`Mode.start` returns over vLLM's OpenAI API, and reports what :meth:`Mode.state` returns. To
add a mode, implement the protocol in a folder of its own and name it in
:mod:`seesaw_worker.modes.choose`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from prometheus_client import CollectorRegistry

from seesaw_core.errors import EngineDiedError
from seesaw_core.messages import ReshardingState, StaticState, TransitionEvent, WaveEvent

Event = TransitionEvent | WaveEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeState:
    """What a mode contributes to the worker's state.

    The part of the mode is None where readers know the mode by its name alone.
    """

    num_waiting: int = 0
    waiting_tokens: int = 0
    part: ReshardingState | StaticState | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What a mode calls, from the event loop of :meth:`Mode.start`.

    ``report`` takes a line for the log. ``publish`` takes an event for those who follow the worker.
    ``on_death`` is called once, when the mode can serve no more.
    """

    report: Callable[[str], None]
    publish: Callable[[Event], None]
    on_death: Callable[[EngineDiedError], None]


class Core(Protocol):
    """What the liveness watch asks of an engine."""

    async def collective_rpc_async(self, method: str) -> Any: ...


class ModeClient(Protocol):
    """What the server asks of a mode's engine client, which is vLLM's ``EngineClient`` besides.

    :class:`seesaw_worker.modes.client.WatchedLLM` implements it for engines of vLLM. The server
    sets ``is_stalled``.
    """

    is_stalled: bool
    errored: bool
    dead_error: BaseException

    async def get_supported_tasks(self) -> tuple[str, ...]: ...
    def watched_cores(self) -> Mapping[str, Core]: ...
    def hand_over(self) -> int | None: ...
    def expected_step_s(self) -> float: ...
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
        """How far loading has come, in words; empty if nothing is known."""

    def register(self, registry: CollectorRegistry) -> None:
        """Register the mode's metrics. Called once, before :meth:`prepare`."""

    def refresh(self) -> None:
        """Bring the metrics up to date. Called before each scrape."""

    async def prepare(self, hooks: Hooks) -> None:
        """Check everything that can be checked before anything is loaded. Raises: InputError."""

    async def start(self, hooks: Hooks) -> ModeClient:
        """Load the model. Raises: InputError; whatever an engine raises that cannot start."""

    def state(self) -> ModeState:
        """Returns the mode's part of the worker's state."""

    def close(self) -> None:
        """Remove all that the mode left on the machine. Engines may still run."""
