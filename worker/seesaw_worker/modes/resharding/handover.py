"""One transition: the devices go from one engine to the other.

pause    the old engine finishes its running steps and gives its devices up
weights  the new engine's ranks take the devices and fill their arenas
resume   the new engine may schedule

All three are requested at once: each rank of the new engine waits until its device is given up,
and the new core handles its calls in order, so that no message is in flight while devices idle.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from seesaw_core.messages import TransitionEvent
from seesaw_core.resharding.policy import Phase


class EngineCore(Protocol):
    """What we need of vLLM's ``AsyncMPClient``."""

    outputs_queue: "asyncio.Queue[Any]"

    async def add_request_async(self, request: Any) -> None: ...
    async def abort_requests_async(self, request_ids: list[str]) -> None: ...
    async def get_output_async(self) -> Any: ...
    async def pause_scheduler_async(self, mode: Any, clear_cache: bool) -> None: ...
    async def resume_scheduler_async(self) -> None: ...
    async def collective_rpc_async(self, method: str) -> Any: ...
    async def reset_prefix_cache_async(self, running: bool, connector: bool) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Engines:
    """The two engine cores."""

    prefill: EngineCore
    decode: EngineCore

    def of(self, phase: Phase) -> EngineCore:
        return self.prefill if phase is Phase.PREFILL else self.decode


class Handover:
    """Runs transitions and counts them. ``under_way`` is the number of the running transition.

    Requires: one transition at a time, alternating between the phases.
    """

    def __init__(self, engines: Engines, clock: Callable[[], float] = time.monotonic) -> None:
        self.count = 0
        self.under_way: int | None = None
        self._engines = engines
        self._now = clock

    async def run(self, to: Phase, reason: str) -> TransitionEvent:
        """Give the devices to the engine of phase ``to``. Returns once that engine may schedule."""
        old = self._engines.of(Phase.DECODE if to is Phase.PREFILL else Phase.PREFILL)
        new = self._engines.of(to)
        began = self._now()
        self.under_way = self.count + 1
        pausing = asyncio.ensure_future(old.pause_scheduler_async("keep", False))
        acquiring = asyncio.ensure_future(new.collective_rpc_async("seesaw_acquire"))
        resuming = asyncio.ensure_future(new.resume_scheduler_async())
        try:
            await pausing
            paused = self._now()
            copied = await acquiring
            acquired = self._now()
            await resuming
        finally:
            self.under_way = None
            for part in (pausing, acquiring, resuming):
                part.cancel()
        ended = self._now()
        self.count += 1
        return TransitionEvent(
            number=self.count,
            to=to,
            reason=reason,
            pause_s=paused - began,
            weights_s=acquired - paused,
            resume_s=ended - acquired,
            total_s=ended - began,
            weight_bytes=sum(num_bytes for num_bytes, _ in copied),
        )
