"""The commands that the benchmark runs on Seesaw's two engines."""

import asyncio
import dataclasses
import random
import time
from typing import Any

import msgspec

from seesaw_bench.worker.decoding import Batch, random_prompt, steady_decode
from seesaw_bench.worker.policy import Mode, ScriptedPolicy
from seesaw_bench.worker.taps import AcquireTap, Events, PrefillTap
from seesaw_worker.modes.resharding import requests
from seesaw_worker.modes.resharding.kv.transfer import BufferTicket
from seesaw_worker.modes.resharding.llm import SeesawLLM
from seesaw_worker.processes.control_page import Role

_POLL_S = 0.002
_MANY_READERS = 1 << 40
_PATIENCE_S = 300.0


class SeesawCommands:
    """The commands of a Seesaw subject; each public coroutine is one of them."""

    def __init__(self, llm: SeesawLLM, policy: ScriptedPolicy, events: Events) -> None:
        self._llm = llm
        self._policy = policy
        self._events = events
        self._tap = PrefillTap(llm.cores.prefill)
        self._acquired = {
            "prefill": AcquireTap(llm.cores.prefill),
            "decode": AcquireTap(llm.cores.decode),
        }
        self._rng = random.Random(0)
        self._count = 0
        self._entries: list[str] = []

    async def ready(self) -> dict[str, Any]:
        """Return constant facts: sizes, processes, and what each rank's replay moves."""

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
        await self._until(lambda: self._llm.controller.driver.phase == to)

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

        prompts = self._prompts(batch, context)
        room = self._llm.model_config.max_model_len - context
        running = Batch(llm=self._llm, prompts=prompts, max_tokens=room)
        self._tell(Mode.IN_PLACE)
        running.start()
        await running.all_decoding.wait()
        self._tell(Mode.HOLD)
        num_before = len(self._events.transitions)
        fresh = Batch(llm=self._llm, prompts=self._prompts(waiting, waiting_prompt), max_tokens=2)
        fresh.start()
        await self._until(lambda: len(self._llm.controller.driver.waiting) == waiting)
        self._tell(Mode.RESHARD)
        await fresh.join()
        self._tell(Mode.HOLD)
        events = self._events.transitions[num_before:]
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
                "copying_s": self._acquired[event.to].copying_s,
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
            self._llm.controller.driver.ledger.release(key)
        return {"tokens_per_s": prompts * tokens / seconds, "copying_s": saving}

    async def store(self, entries: int, tokens: int) -> None:
        """Leave prompts' KV in the buffer for good. Requires: prefill owns."""
        keys = [self._next_key("entry") for _ in range(entries)]
        ledger = self._llm.controller.driver.ledger
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

        rng = random.Random(batch)
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
        self._llm.controller.unpin_decode()  # wakes the controller up

    async def _until(self, is_so: Any) -> None:
        async with asyncio.timeout(_PATIENCE_S):
            while not is_so():
                await asyncio.sleep(_POLL_S)

    def _prompts(self, count: int, tokens: int) -> list[list[int]]:

        return [random_prompt(self._rng, tokens) for _ in range(count)]

    def _next_key(self, kind: str) -> str:
        self._count += 1
        return f"bench-{kind}-{self._count}"

    def _prefill_request(self, key: str, tokens: int, leaving: bool) -> Any:

        blocks: tuple[int, ...] = ()
        if leaving:
            blocks = self._llm.controller.driver.ledger.reserve(key, tokens, readers=1).blocks
        ticket = BufferTicket(key=key, num_tokens=tokens, blocks=blocks)
        request = requests.for_prefill(self._bare_request(key, tokens), ticket)
        if not leaving:
            assert request.sampling_params is not None
            request.sampling_params.extra_args = None
        return request

    def _bare_request(self, key: str, tokens: int) -> Any:
        """A request for one token on a fresh prompt."""

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

        key = self._next_key("extra")
        ticket = None
        if load:
            entry = self._llm.controller.driver.ledger.entry(
                self._entries[self._count % len(self._entries)]
            )
            ticket = BufferTicket(key=entry.key, num_tokens=entry.num_tokens, blocks=entry.blocks)
            self._llm.controller.expect_loading(key, entry.key)
        request = self._bare_request(key, ticket.num_tokens + 1 if ticket else 1)
        await self._llm.cores.decode.add_request_async(requests.for_decode(request, ticket))

    def _num_loaded(self) -> int:
        ledger = self._llm.controller.driver.ledger
        return sum(_MANY_READERS - ledger.entry(key).readers for key in self._entries)

    def _entry_tokens(self) -> int:
        return self._llm.controller.driver.ledger.entry(self._entries[0]).num_tokens

    async def _kv_seconds(self, engine: str, direction: str) -> float:
        """Seconds that the slowest rank has spent copying KV."""
        core = self._llm.cores.prefill if engine == "prefill" else self._llm.cores.decode
        facts = await core.collective_rpc_async("seesaw_info")
        return max(float((rank["kv_seconds"] or {}).get(direction, 0.0)) for rank in facts)
