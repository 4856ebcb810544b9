"""Seesaw's two engines, as a subject of the benchmark: the worker's own code, told what to do.

Imports vLLM only once its fork server is on its way, as the worker does.
"""

import asyncio
import contextlib
import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seesaw_core.errors import EngineDiedError
from seesaw_worker.bench.link import Job, answer, run_subject
from seesaw_worker.bench.policy import Mode, ToldPolicy
from seesaw_worker.bench.workload import DECODE, PREFILL
from seesaw_worker.plugin import SERVER_PID_VARIABLE

if TYPE_CHECKING:
    from seesaw_core.messages import TransitionEvent, WaveEvent
    from seesaw_worker.engine.llm import SeesawLLM

_POLL_S = 0.002
_MANY_READERS = 1 << 40
_PATIENCE_S = 300.0


class Events:
    """Implements :class:`seesaw_worker.engine.controller.Observer`."""

    def __init__(self) -> None:
        self.transitions: list[TransitionEvent] = []

    def transition_done(self, event: "TransitionEvent") -> None:
        self.transitions.append(event)

    def wave_done(self, event: "WaveEvent") -> None:
        """Waves are not what is measured here."""


class PrefillTap:
    """Sees what the prefill engine finishes, on its way to the controller."""

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


class SeesawSubject:
    """What the benchmark can ask of Seesaw; each public coroutine is one command."""

    def __init__(self, llm: "SeesawLLM", policy: ToldPolicy, events: Events) -> None:
        self._llm = llm
        self._policy = policy
        self._events = events
        self._tap = PrefillTap(llm.cores.prefill)
        self._rng = random.Random(0)  # noqa: S311 - a benchmark's workload
        self._count = 0
        self._entries: list[str] = []

    async def ready(self) -> dict[str, Any]:
        """Facts that stay: sizes, processes, what each rank's plan moves."""
        import dataclasses

        settings = self._llm.configs.settings
        return {
            "sizes": dataclasses.asdict(self._llm.configs.sizes),
            "block_size": settings.block_size,
            "token_bytes": settings.block_bytes // settings.block_size,
            "ranks": await self._llm.worker_facts(),
        }

    async def switch(self, to: str) -> None:
        """Give the devices to one engine and keep them there."""
        self._tell(Mode.PREFILL if to == "prefill" else Mode.IN_PLACE)
        await self._until(lambda: self._llm.controller.phase == to)

    async def memcpy(self, role: str) -> list[list[float]]:
        """Bytes and seconds of a plain copy on every rank at once. ``role`` owns the devices."""
        core = self._llm.cores.prefill if role == "prefill" else self._llm.cores.decode
        return [list(pair) for pair in await core.collective_rpc_async("seesaw_memcpy_s")]

    async def transitions(
        self, batch: int, context: int, waiting: int, waiting_prompt: int
    ) -> dict[str, Any]:
        """One transition each way while a batch decodes and prompts wait.

        Requires: the decode engine owns the devices.
        """
        from seesaw_worker.bench.decoding import Batch
        from seesaw_worker.control import Role

        prompts = self._prompts(batch, context)
        room = self._llm.model_config.max_model_len - context
        running = Batch(llm=self._llm, prompts=prompts, max_tokens=room)
        self._tell(Mode.IN_PLACE)
        running.start()
        await running.all_decoding.wait()
        self._tell(Mode.HOLD)
        seen = len(self._events.transitions)
        fresh = Batch(llm=self._llm, prompts=self._prompts(waiting, waiting_prompt), max_tokens=2)
        fresh.start()
        await self._until(lambda: len(self._llm.controller.waiting_tokens) == waiting)
        self._tell(Mode.RESHARD)
        await fresh.join()
        self._tell(Mode.HOLD)
        events = self._events.transitions[seen:]
        if running.first_ended.is_set() or [e.to for e in events] != ["prefill", "decode"]:
            raise RuntimeError(f"the load ended early, or transitions were {events}")
        handovers = {role.title: self._llm.control.last_handover_s(role) for role in Role}
        await running.cancel()
        self._tell(Mode.IN_PLACE)
        await self._llm.controller.drained()
        return {
            event.to: {
                "pause_s": event.pause_s,
                "weights_s": event.weights_s,
                "resume_s": event.resume_s,
                "total_s": event.total_s,
                "bytes": event.weight_bytes,
                "handover_s": handovers[event.to],
            }
            for event in events
        }

    async def prefill(self, prompts: int, tokens: int, leaving: bool) -> dict[str, Any]:
        """Prefill fresh prompts, with their KV leaving or not. Requires: prefill owns."""
        keys = [self._next_key("prefill") for _ in range(prompts)]
        batch = [self._prefill_request(key, tokens, leaving) for key in keys]
        before = await self._kv_seconds("prefill", "save")
        began = time.perf_counter()
        await self._run_prefill(batch)
        seconds = time.perf_counter() - began
        saving = await self._kv_seconds("prefill", "save") - before
        for key in keys if leaving else ():
            self._llm.controller.ledger.release(key)
        return {"tokens_per_s": prompts * tokens / seconds, "copying_s": saving}

    async def store(self, entries: int, tokens: int) -> None:
        """Leave prompts' KV in the buffer for good. Requires: prefill owns."""
        keys = [self._next_key("entry") for _ in range(entries)]
        ledger = self._llm.controller.ledger
        await self._run_prefill([self._prefill_request(key, tokens, leaving=True) for key in keys])
        for key in keys:
            ledger.store(key)
            ledger.entry(key).readers = _MANY_READERS
        self._entries = keys

    async def decode(
        self, batch: int, context: int, tokens: int, extras: str = "none", every_s: float = 1.0
    ) -> dict[str, Any]:
        """Steady decode, with extra requests of one token beside it.

        extras: ``none``; ``load``, whose KV comes from the buffer; or ``in_place``, prompts of
        one token, which ask the same of the scheduler and the model but move no KV.
        """
        from seesaw_worker.bench.decoding import random_prompt, steady_decode

        rng = random.Random(batch)  # noqa: S311 - the same prompts each time, from the prefix cache
        prompts = [random_prompt(rng, context - tokens // 2) for _ in range(batch)]
        sent, loaded, copying = 0, 0, 0.0

        async def during() -> None:
            nonlocal sent, loaded
            begun = self._num_loaded()
            try:
                due = time.perf_counter()
                while True:
                    sent += 1
                    await self._send_extra(extras == "load")
                    due += every_s
                    await asyncio.sleep(max(0.0, due - time.perf_counter()))
            finally:
                loaded = self._num_loaded() - begun

        self._tell(Mode.IN_PLACE)
        before = await self._kv_seconds("decode", "load")
        loads_before = self._num_loaded()
        result = await steady_decode(
            self._llm,
            prompts=prompts,
            max_tokens=tokens,
            during=None if extras == "none" else during,
        )
        if extras == "load":
            await self._until(lambda: self._num_loaded() - loads_before == sent)
            copying = await self._kv_seconds("decode", "load") - before
        moved = loaded * self._entry_tokens() if loaded else 0
        return result | {
            "extras": sent,
            "loaded_tokens_per_s": moved / result["window_s"],
            "copying_s": copying,
        }

    # ---- how

    def _tell(self, mode: Mode) -> None:
        self._policy.mode = mode
        self._llm.controller.let_go()  # wakes the controller up

    async def _until(self, is_so: Any) -> None:
        async with asyncio.timeout(_PATIENCE_S):
            while not is_so():  # noqa: ASYNC110 - other processes make it so
                await asyncio.sleep(_POLL_S)

    def _prompts(self, count: int, tokens: int) -> list[list[int]]:
        from seesaw_worker.bench.decoding import random_prompt

        return [random_prompt(self._rng, tokens) for _ in range(count)]

    def _next_key(self, kind: str) -> str:
        self._count += 1
        return f"bench-{kind}-{self._count}"

    def _prefill_request(self, key: str, tokens: int, leaving: bool) -> Any:
        from seesaw_worker.engine import requests
        from seesaw_worker.kv.transfer import BufferTicket

        blocks: tuple[int, ...] = ()
        if leaving:
            blocks = self._llm.controller.ledger.reserve(key, tokens, readers=1).blocks
        ticket = BufferTicket(key=key, num_tokens=tokens, blocks=blocks)
        request = requests.for_prefill(self._bare_request(key, tokens), ticket)
        if not leaving:
            assert request.sampling_params is not None
            request.sampling_params.extra_args = None
        return request

    def _bare_request(self, key: str, tokens: int) -> Any:
        """A request for one token on a fresh prompt."""
        import msgspec

        from seesaw_worker.engine import requests

        (prompt,) = self._prompts(1, tokens)
        request = requests.for_warm_up(key, 1)
        assert request.sampling_params is not None
        request.sampling_params.max_tokens = 1
        return msgspec.structs.replace(request, prompt_token_ids=prompt)

    async def _run_prefill(self, batch: list[Any]) -> None:
        finished = [self._tap.expect(request.request_id) for request in batch]
        for request in batch:
            await self._llm.cores.prefill.add_request_async(request)
        async with asyncio.timeout(_PATIENCE_S):
            for event in finished:
                await event.wait()

    async def _send_extra(self, load: bool) -> None:
        from seesaw_worker.engine import requests
        from seesaw_worker.kv.transfer import BufferTicket

        key = self._next_key("extra")
        ticket = None
        if load:
            entry = self._llm.controller.ledger.entry(
                self._entries[self._count % len(self._entries)]
            )
            ticket = BufferTicket(key=entry.key, num_tokens=entry.num_tokens, blocks=entry.blocks)
        request = self._bare_request(key, ticket.num_tokens + 1 if ticket else 1)
        await self._llm.cores.decode.add_request_async(requests.for_decode(request, ticket))

    def _num_loaded(self) -> int:
        ledger = self._llm.controller.ledger
        return sum(_MANY_READERS - ledger.entry(key).readers for key in self._entries)

    def _entry_tokens(self) -> int:
        return self._llm.controller.ledger.entry(self._entries[0]).num_tokens

    async def _kv_seconds(self, engine: str, direction: str) -> float:
        """Seconds that the slowest rank has spent copying KV."""
        core = self._llm.cores.prefill if engine == "prefill" else self._llm.cores.decode
        facts = await core.collective_rpc_async("seesaw_info")
        return max((rank["kv_seconds"] or {}).get(direction, 0.0) for rank in facts)


async def serve(fd: int, job: Job) -> None:
    """Start both engines and answer until the benchmark hangs up."""
    from seesaw_core.policy import PhasePolicy
    from seesaw_worker import preflight
    from seesaw_worker.bench.plain_subject import engine_args
    from seesaw_worker.engine import configs
    from seesaw_worker.engine.llm import start_llm
    from seesaw_worker.engine.settings import WeightsMode
    from seesaw_worker.settings import WorkerSettings
    from seesaw_worker.shm import RunFolder

    mode = WeightsMode.SHARED if job.kind == "seesaw" else WeightsMode.RESIDENT
    settings = WorkerSettings(
        prefill=PREFILL,
        decode=DECODE,
        kv_buffer_gib=job.buffer_gib,
        shm_dir=Path("/dev/shm"),  # noqa: S108 - shared memory, in a folder of our own
        policy=PhasePolicy(),
        weights=mode,
        drain_timeout_s=1.0,
    )
    args = engine_args(job)
    shape = configs.shape_of(configs.probe(args))
    tensors = preflight.checkpoint_tensors(job.model) if mode is WeightsMode.SHARED else ()
    folder = RunFolder.create(settings.shm_dir)
    try:
        made = configs.engine_configs(
            args, settings, folder=folder.path, shape=shape, tensors=tensors
        )
        policy, events = ToldPolicy(), Events()
        llm = await start_llm(made, policy=policy, observer=events, on_death=_die, log_stats=False)
        subject = SeesawSubject(llm, policy, events)
        commands = {
            name: getattr(subject, name)
            for name in ("ready", "switch", "memcpy", "transitions", "prefill", "store", "decode")
        }
        await answer(fd, commands)
        with contextlib.suppress(Exception):
            llm.shutdown()
    finally:
        folder.close()


def _die(error: EngineDiedError) -> None:
    """The benchmark sees the end of the stream, and shows the log."""
    print(f"seesaw bench: {error}", flush=True)
    asyncio.get_running_loop().call_later(0.5, os._exit, 1)


if __name__ == "__main__":
    os.environ[SERVER_PID_VARIABLE] = str(os.getpid())
    from seesaw_worker.engine.processes import start_fork_server

    start_fork_server()
    run_subject(serve)
