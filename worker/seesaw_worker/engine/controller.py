"""The controller: gives the devices to one engine at a time and each prompt its path.

It sits between vLLM's front end and the two engine cores, at the level of engine-core requests:
everything that vLLM does with a request before and after the engine stays vLLM's own. It asks
the policy for the next step, carries it out, and keeps the ledger.

A prompt's way::

    submit ─> waiting ─> prefill engine ─> buffer ─> decode engine ─> outputs
                 └──────────── in place ───────────────┘
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from seesaw_core.ledger import Ledger
from seesaw_core.messages import PathTotals, TransitionEvent, WaveEvent
from seesaw_core.policy import Admit, Costs, InPlace, Phase, Policy, Step, Switch, View, Wait
from seesaw_core.rates import Mean
from seesaw_worker.engine import requests
from seesaw_worker.engine.handover import EngineCore, Engines, Handover
from seesaw_worker.engine.in_decode import InDecode
from seesaw_worker.engine.meters import CostMeter
from seesaw_worker.engine.waiting import Prompt, WaitingPrompts
from seesaw_worker.kv.transfer import BufferTicket, Progress


class Observer(Protocol):
    """Who wants to hear of transitions and waves."""

    def transition_done(self, event: TransitionEvent) -> None: ...
    def wave_done(self, event: WaveEvent) -> None: ...


class Controller:
    """Carries out the policy's steps on two engine cores.

    Call order: :meth:`prepare`, then :meth:`run` as a task, each once; everything else from the
    same event loop while it runs. Requires: both engines exist.
    """

    def __init__(
        self,
        *,
        policy: Policy,
        ledger: Ledger,
        engines: Engines,
        observer: Observer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.policy = policy
        self.ledger = ledger
        self.phase = Phase.DECODE
        self.paths = PathTotals()
        self.seconds_by_phase = dict.fromkeys(Phase, 0.0)
        self._prefill, self._decode = engines.prefill, engines.decode
        self._handover = Handover(engines, clock)
        self._observer = observer
        self._now = clock
        self._phase_began_s = self._now()
        self._kick = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._held = 0
        self._settled = asyncio.Event()
        self._keys = itertools.count()
        self._waiting = WaitingPrompts(by_priority=engines.by_priority)
        self._prefilling: dict[str, Prompt] = {}
        self._orphans: set[str] = set()
        self._prefill_may_write = False
        self._meter = CostMeter()
        self._decoding = InDecode(ledger, engines.decode_room, self._meter.in_place, clock)
        self._last_step: Step = Wait(at_most_s=None, reason="no prompt waits")

    # ---- what the front end calls

    async def submit(self, request: Any) -> None:
        """Take a request. Returns at once; its outputs come from the decode engine."""
        if request.abort_immediately:
            return  # vLLM's way to free KV that a third party holds; there is none, and no output
        self._idle.clear()
        tokens = requests.carried_tokens(request)
        if tokens is None or not 0 < tokens <= self.ledger.capacity_tokens:
            await self._send_in_place([request])
            return
        if not self._waiting.join(request, tokens):
            self._waiting.add(f"seesaw-{next(self._keys)}", request, tokens, self._now())
        self._kick.set()

    async def abort(self, request_ids: Iterable[str]) -> None:
        """Forget requests wherever they are. Unknown ones are ignored."""
        wanted = set(request_ids)
        in_decode = self._decoding.forget(wanted)
        if in_decode:
            await self._decode.abort_requests_async(sorted(in_decode))
        for prompt in self._prompts_of(wanted - in_decode):
            for request_id in wanted & prompt.readers.keys():
                del prompt.readers[request_id]
                if prompt.key in self._prefilling:
                    self.ledger.release(prompt.key)
            if not prompt.readers:
                await self._drop(prompt)
        self._note_progress()

    async def hold_in_decode(self) -> None:
        """Stay in the decode phase until :meth:`let_go`; returns once there."""
        self._held += 1
        self._settled.clear()
        self._kick.set()
        try:
            await self._settled.wait()
        except BaseException:
            self.let_go()
            raise

    def let_go(self) -> None:
        self._held = max(0, self._held - 1)
        self._kick.set()

    async def pass_on_all(self) -> None:
        """Give the decode engine every prompt that waits or is half prefilled, to do it in place.

        Requires: held in decode, so that the prefill engine stands still.
        """
        await self._take_in_place(len(self._waiting))
        for prompt in list(self._prefilling.values()):
            if prompt.key not in self._prefilling:
                continue  # aborted while an earlier one was sent
            readers = list(prompt.readers.values())
            for _ in readers:
                self.ledger.release(prompt.key)
            self._forget_prefilling(prompt)
            await self._send_in_place(readers)
            await self._prefill.abort_requests_async([prompt.key])

    async def drained(self) -> None:
        """Wait until no request is left."""
        await self._idle.wait()

    # ---- what the decode engine tells

    def observe_outputs(self, outputs: Iterable[Any]) -> None:
        """Look at the decode engine's outputs on their way to the front end."""
        self._decoding.observe_outputs(outputs)
        self._note_progress()

    def observe_progress(self, progress: Progress, key: str, request_id: str) -> None:
        """Follow a buffer entry through the decode engine."""
        self._decoding.observe_progress(progress, key, request_id)
        self._note_progress()

    # ---- what others may see

    @property
    def num_transitions(self) -> int:
        return self._handover.count

    @property
    def transition_under_way(self) -> int | None:
        """The number of the transition that runs now."""
        return self._handover.under_way

    @property
    def num_decoding(self) -> int:
        return len(self._decoding)

    @property
    def num_prefilling(self) -> int:
        return len(self._prefilling)

    @property
    def waiting_tokens(self) -> tuple[int, ...]:
        return self._waiting.tokens

    @property
    def phase_age_s(self) -> float:
        return self._now() - self._phase_began_s

    @property
    def last_reason(self) -> str:
        """Why the last step was taken, or why none is."""
        return self._last_step.reason

    @property
    def costs(self) -> Costs:
        return self._meter.costs

    def view(self) -> View:
        """All that the policy may know, as of now."""
        return View(
            phase=self.phase,
            phase_age_s=self.phase_age_s,
            waiting_tokens=self.waiting_tokens,
            oldest_wait_s=self._waiting.oldest_wait_s(self._now()),
            num_prefilling=len(self._prefilling),
            num_decoding=len(self._decoding),
            decode_has_room=self._decoding.has_room,
            free_tokens=self.ledger.free_tokens,
            stored_tokens=self.ledger.stored_tokens,
            capacity_tokens=self.ledger.capacity_tokens,
            block_size=self.ledger.block_size,
            costs=self.costs,
        )

    # ---- the loop

    async def prepare(self, warm_up_tokens: int) -> None:
        """Warm both engines up and learn what things cost. Once, before serving.

        The first steps of an engine take long, so each rate comes from a second prompt.
        Requires: nobody else reads the engines' outputs yet.
        """
        await self._prefill.pause_scheduler_async("keep", False)
        await self._decode.collective_rpc_async("seesaw_acquire")
        await self._time_prompt(self._decode, warm_up_tokens)
        in_place_s = await self._time_prompt(self._decode, warm_up_tokens)
        self._meter.in_place.rate.observe(warm_up_tokens, in_place_s)
        await self._switch(Phase.PREFILL, "warming up")
        await self._time_prompt(self._prefill, warm_up_tokens)
        prefill_s = await self._time_prompt(self._prefill, warm_up_tokens)
        self._meter.prefill.observe(warm_up_tokens, prefill_s)
        await self._switch(Phase.DECODE, "warming up")
        for core in (self._prefill, self._decode):
            await core.reset_prefix_cache_async(False, False)
        self._meter.transition_s = Mean()
        for to in (Phase.PREFILL, Phase.DECODE):
            await self._switch(to, "measuring what a transition costs")

    async def _time_prompt(self, core: EngineCore, num_tokens: int) -> float:
        key = f"seesaw-{next(self._keys)}"
        began = self._now()
        await core.add_request_async(requests.for_warm_up(key, num_tokens))
        while True:
            outputs = await core.get_output_async()
            if any(o.request_id == key and o.finish_reason is not None for o in outputs.outputs):
                return self._now() - began

    async def run(self) -> None:
        """Carry out steps for ever. Raises: BrokenError or vLLM's error if an engine is dead."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read_prefill_outputs())
            tasks.create_task(self._carry_out_steps())

    async def _carry_out_steps(self) -> None:
        while True:
            self._kick.clear()
            step = self._held_step() if self._held else self.policy.next_step(self.view())
            self._last_step = step
            match step:
                case Switch(to=to, reason=reason):
                    await self._switch(to, reason)
                case Admit(count=count):
                    await self._admit(count)
                case InPlace(count=count):
                    await self._take_in_place(count)
                case Wait(at_most_s=at_most_s):
                    await self._wait(at_most_s)

    def _held_step(self) -> Switch | Wait:
        if self.phase is Phase.PREFILL:
            return Switch(to=Phase.DECODE, reason="held in decode")
        self._settled.set()
        return Wait(at_most_s=None, reason="held in decode")

    async def _wait(self, at_most_s: float | None) -> None:
        try:
            async with asyncio.timeout(at_most_s):
                await self._kick.wait()
        except TimeoutError:
            pass

    async def _switch(self, to: Phase, reason: str) -> None:
        began = self._now()
        if self.phase is Phase.PREFILL:
            wave = self._meter.end_wave(began)
            if wave is not None:
                self._observer.wave_done(wave)
        self._meter.in_place.interrupt()
        self._prefill_may_write = True
        if to is Phase.PREFILL:  # it may step before the handover has returned
            self._meter.wave.began_s = began
        event = await self._handover.run(to, reason)
        self.seconds_by_phase[self.phase] += began - self._phase_began_s
        self.phase, self._phase_began_s = to, self._now()
        if to is Phase.PREFILL:
            self._meter.wave.began_s = self._phase_began_s
        else:
            self._prefill_may_write = False
            for key in self._orphans:
                self.ledger.let_go(key)
            self._orphans.clear()
        # The pause is the old engine's last step: work done, whatever comes after it.
        self._meter.transition_s.observe(event.weights_s + event.resume_s)
        self._observer.transition_done(event)

    async def _admit(self, count: int) -> None:
        for prompt in self._waiting.first(count):
            if self._waiting.remove(prompt.key) is None:
                continue  # aborted while an earlier one was sent
            entry = self.ledger.reserve(prompt.key, prompt.num_tokens, readers=len(prompt.readers))
            self.ledger.hold(prompt.key)
            self._prefilling[prompt.key] = prompt
            ticket = BufferTicket(key=prompt.key, num_tokens=prompt.num_tokens, blocks=entry.blocks)
            first = next(iter(prompt.readers.values()))
            request = requests.for_prefill(first, ticket, prompt.priority)
            await self._prefill.add_request_async(request)

    async def _take_in_place(self, count: int) -> None:
        prompts = self._waiting.first(count)
        for prompt in prompts:
            self._waiting.remove(prompt.key)
        await self._send_in_place([r for p in prompts for r in p.readers.values()])

    async def _send_in_place(self, batch: list[Any]) -> None:
        self._decoding.expect_in_place(batch)
        for request in batch:
            if request.request_id not in self._decoding:
                continue  # aborted while an earlier one was sent
            tokens = requests.num_prompt_tokens(request)
            self._count(in_place_requests=1, in_place_tokens=tokens)
            if self.phase is Phase.DECODE:
                self._meter.in_place.sent(request.request_id, tokens, self._now())
            await self._decode.add_request_async(requests.for_decode(request, None))
        self._kick.set()

    async def _read_prefill_outputs(self) -> None:
        while True:
            outputs = await self._prefill.get_output_async()
            for output in outputs.outputs:
                if output.finish_reason is None:
                    continue
                prompt = self._prefilling.pop(output.request_id, None)
                if prompt is not None:
                    await self._prefilled(prompt, requests.is_prefilled(output))
            self._note_progress()

    async def _prefilled(self, prompt: Prompt, succeeded: bool) -> None:
        """Pass a prompt on to the decode engine, with its KV or, if that failed, without."""
        self.ledger.let_go(prompt.key)
        if not succeeded:
            for _ in prompt.readers:
                self.ledger.release(prompt.key)
            await self._send_in_place(list(prompt.readers.values()))
            return
        self._meter.wave.add(prompt.num_tokens, self._now())
        self.ledger.store(prompt.key)
        entry = self.ledger.entry(prompt.key)
        ticket = BufferTicket(key=prompt.key, num_tokens=prompt.num_tokens, blocks=entry.blocks)
        self._decoding.expect_loading(prompt.readers)
        for request_id, request in list(prompt.readers.items()):
            if request_id not in self._decoding:
                self.ledger.release(prompt.key)  # aborted while an earlier one was sent
                continue
            self._count(reshard_requests=1, reshard_tokens=requests.num_prompt_tokens(request))
            self._decoding.claim(request_id, prompt.key)
            await self._decode.add_request_async(requests.for_decode(request, ticket))

    async def _drop(self, prompt: Prompt) -> None:
        """Forget a prompt that nobody wants any more."""
        if self._waiting.remove(prompt.key) is None:
            self._forget_prefilling(prompt)
            await self._prefill.abort_requests_async([prompt.key])

    def _forget_prefilling(self, prompt: Prompt) -> None:
        """Free a prompt's blocks as soon as the prefill engine can no longer write them.

        While that engine runs, that is when its next pause has completed.
        """
        del self._prefilling[prompt.key]
        if self._prefill_may_write:
            self._orphans.add(prompt.key)
        else:
            self.ledger.let_go(prompt.key)

    def _prompts_of(self, request_ids: set[str]) -> list[Prompt]:
        everywhere = itertools.chain(self._waiting, self._prefilling.values())
        return [p for p in everywhere if request_ids & p.readers.keys()]

    def _count(self, **more: int) -> None:
        totals = self.paths
        self.paths = PathTotals(
            **{f: getattr(totals, f) + more.get(f, 0) for f in PathTotals.__slots__}
        )

    def _note_progress(self) -> None:
        if not (self._waiting or self._prefilling or self._decoding):
            self._idle.set()
        self._kick.set()
