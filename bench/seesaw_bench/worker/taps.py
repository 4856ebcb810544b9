"""Observes a running worker for the benchmark: its events, and the answers of its engine cores."""

import asyncio
from typing import Any

from seesaw_core.messages import TransitionEvent, WaveEvent


class Events:
    """Implements :class:`seesaw_worker.modes.resharding.controller.Observer`."""

    def __init__(self) -> None:
        self.transitions: list[TransitionEvent] = []

    def transition_done(self, event: TransitionEvent) -> None:
        self.transitions.append(event)

    def wave_done(self, event: WaveEvent) -> None:
        """Ignore waves, which are not measured."""


class PrefillTap:
    """Observes the finished prompts of the prefill engine on their way to the controller.

    Requires: it is created before the controller first reads that engine's outputs.
    """

    def __init__(self, core: Any) -> None:
        self._finished: dict[str, asyncio.Event] = {}
        self._get_output = core.get_output_async
        core.get_output_async = self._next_output

    def expect(self, key: str) -> asyncio.Event:
        return self._finished.setdefault(key, asyncio.Event())

    async def _next_output(self) -> Any:
        outputs = await self._get_output()
        for output in outputs.outputs:
            if output.finish_reason is not None and output.request_id in self._finished:
                self._finished.pop(output.request_id).set()
        return outputs


class AcquireTap:
    """Observes how long an engine's ranks copied when they took the devices."""

    def __init__(self, core: Any) -> None:
        self.copying_s = 0.0
        self._call = core.collective_rpc_async
        core.collective_rpc_async = self._pass_on

    async def _pass_on(self, method: str, *args: Any, **kwargs: Any) -> Any:
        results = await self._call(method, *args, **kwargs)
        if method == "seesaw_acquire":
            self.copying_s = max(float(seconds) for _, seconds in results)
        return results
