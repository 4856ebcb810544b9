"""The controller: it gives the devices to one engine at a time and moves requests along.

The controller sits between vLLM's front end and the two engine cores, at the level of engine-core
requests: all that vLLM does with a request before and after the engine stays vLLM's own. The
controller asks the driver for the next step and carries it out. It runs transitions itself and
leaves requests to the paths.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from seesaw_core.messages import PathTotals, TransitionEvent, WaveEvent
from seesaw_core.resharding import events
from seesaw_core.resharding.driver import Driver
from seesaw_core.resharding.policy import Admit, InPlace, Phase, Switch, Wait
from seesaw_worker.modes.resharding import requests
from seesaw_worker.modes.resharding.handover import EngineCore, Engines, Handover
from seesaw_worker.modes.resharding.kv.transfer import Progress
from seesaw_worker.modes.resharding.paths import Paths


class Observer(Protocol):
    """Receives each transition and each wave that has ended."""

    def transition_done(self, event: TransitionEvent) -> None: ...
    def wave_done(self, event: WaveEvent) -> None: ...


class Controller:
    """Carries out the driver's steps on two engine cores.

    Call order: :meth:`prepare`, then :meth:`run` as a task, each once; all other methods from the
    same event loop while it runs. Requires: both engines exist, and nothing else reports to
    ``driver``.
    """

    def __init__(
        self,
        *,
        driver: Driver,
        engines: Engines,
        observer: Observer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.driver = driver
        self._prefill, self._decode = engines.prefill, engines.decode
        self._handover = Handover(engines, clock)
        self._observer = observer
        self._now = clock
        self._kick = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._settled = asyncio.Event()
        self._paths = Paths(driver, engines, clock)

    # ---- what the front end calls

    async def submit(self, request: Any) -> None:
        """Accept a request, whose outputs come from the decode engine. Returns at once.

        Raises: the error of an invalid request, of which nothing is kept.
        """
        if request.abort_immediately:
            return  # so vLLM frees KV that another server holds; here none does
        self._idle.clear()
        try:
            await self._paths.submit(request)
        finally:
            self._note_progress()

    async def abort(self, request_ids: Iterable[str]) -> None:
        """Abort requests wherever they are. Unknown requests are ignored."""
        await self._paths.abort(request_ids)
        self._note_progress()

    async def pin_decode(self) -> None:
        """Stay in the decode phase until :meth:`unpin_decode`. Returns once the phase is decode."""
        self._paths.observe(events.Held())
        self._settled.clear()
        self._kick.set()
        try:
            await self._settled.wait()
        except BaseException:
            self.unpin_decode()
            raise

    def unpin_decode(self) -> None:
        """Let the phase change again, unless another caller of :meth:`pin_decode` is left."""
        self._paths.observe(events.LetGo())
        self._kick.set()

    async def move_all_to_decode(self) -> None:
        """Move every prompt that waits or is half prefilled to the decode engine, in place.

        Requires: :meth:`pin_decode`, so that the prefill engine stands still.
        """
        await self._paths.prefill_in_place([prompt.key for prompt in self.driver.waiting])
        for prompt in self.driver.prefilling:
            await self._paths.abandon_prefill(prompt)
        self._note_progress()

    def expect_loading(self, request_id: str, key: str) -> None:
        """Track a request that the caller sends to the decode engine to load entry ``key``."""
        self._paths.observe(events.SentToLoad(request_id=request_id, key=key))

    async def drained(self) -> None:
        """Wait until no request is left."""
        await self._idle.wait()

    # ---- what the decode engine reports

    def observe_outputs(self, outputs: Iterable[Any]) -> None:
        """Observe the decode engine's outputs on their way to the front end."""
        self._paths.observe_outputs(outputs)
        self._note_progress()

    def observe_progress(self, progress: Progress, key: str, request_id: str) -> None:
        """Track a request's buffer entry through the decode engine."""
        self._paths.observe_progress(progress, request_id)
        self._note_progress()

    # ---- what others may read

    @property
    def paths(self) -> PathTotals:
        """Requests and prompt tokens so far, by path."""
        return self._paths.totals

    @property
    def num_transitions(self) -> int:
        return self._handover.count

    @property
    def transition_under_way(self) -> int | None:
        """The number of the running transition, if there is one."""
        return self._handover.under_way

    @property
    def phase_age_s(self) -> float:
        return self.driver.phase_age_s(self._now())

    # ---- the loop

    async def prepare(self, warm_up_tokens: int) -> None:
        """Warm up both engines and measure their rates and a transition. Once, before serving.

        The first steps of an engine are slow, so each rate comes from a second prompt.
        Requires: nothing else reads the engines' outputs yet.
        """
        await self._prefill.pause_scheduler_async("keep", False)
        await self._decode.collective_rpc_async("seesaw_acquire")
        await self._time_prompt(self._decode, warm_up_tokens)
        in_place_s = await self._time_prompt(self._decode, warm_up_tokens)
        await self._switch(Phase.PREFILL, "warming up")
        await self._time_prompt(self._prefill, warm_up_tokens)
        prefill_s = await self._time_prompt(self._prefill, warm_up_tokens)
        await self._switch(Phase.DECODE, "warming up")
        for core in (self._prefill, self._decode):
            await core.reset_prefix_cache_async(False, False)
        self._paths.observe(
            events.WarmedUp(num_tokens=warm_up_tokens, prefill_s=prefill_s, in_place_s=in_place_s)
        )
        for to in (Phase.PREFILL, Phase.DECODE):
            await self._switch(to, "measuring the cost of a transition")

    async def _time_prompt(self, core: EngineCore, num_tokens: int) -> float:
        key = self._paths.next_key()
        began = self._now()
        await core.add_request_async(requests.for_warm_up(key, num_tokens))
        while True:
            outputs = await core.get_output_async()
            if any(o.request_id == key and o.finish_reason is not None for o in outputs.outputs):
                return self._now() - began

    async def run(self) -> None:
        """Carry out steps for ever. Raises: BrokenError, or vLLM's error if an engine has died."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read_prefill_outputs())
            tasks.create_task(self._carry_out_steps())

    async def _carry_out_steps(self) -> None:
        while True:
            self._kick.clear()
            if self.driver.is_held:
                self._settled.set()
            match self.driver.next_step(self._now()):
                case Switch(to=to, reason=reason):
                    await self._switch(to, reason)
                case Admit(prompts=prompts):
                    await self._paths.admit(prompts)
                case InPlace(prompts=prompts):
                    await self._paths.prefill_in_place(prompts)
                case Wait(at_most_s=at_most_s):
                    await self._wait(at_most_s)

    async def _wait(self, at_most_s: float | None) -> None:
        try:
            async with asyncio.timeout(at_most_s):
                await self._kick.wait()
        except TimeoutError:
            pass

    async def _switch(self, to: Phase, reason: str) -> None:
        for effect in self._paths.observe(events.TransitionBegan(to=to)):
            if isinstance(effect, WaveEvent):
                self._observer.wave_done(effect)
        done = await self._handover.run(to, reason)
        # The pause is the old engine's last step, which is work and no cost of the transition.
        standstill_s = done.weights_s + done.resume_s
        self._paths.observe(events.TransitionEnded(to=to, standstill_s=standstill_s))
        self._observer.transition_done(done)

    async def _read_prefill_outputs(self) -> None:
        while True:
            outputs = await self._prefill.get_output_async()
            for output in outputs.outputs:
                if output.finish_reason is not None:
                    await self._paths.prefilled(output)
            self._note_progress()

    def _note_progress(self) -> None:
        if not self.driver.num_entries:
            self._idle.set()
        self._kick.set()
