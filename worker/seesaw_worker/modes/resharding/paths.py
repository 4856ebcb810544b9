"""Each request's path through the worker, and the one place where a request's own failure ends.

    submit ─> waiting ─> prefill engine ─> buffer ─> decode engine ─> outputs
                 └──────────── in place ───────────────┘

Whatever a request makes raise on its path, ends that request and nothing else: as it is submitted,
its caller gets the error, as from plain vLLM; later, its stream ends in an error, as if its engine
had said so. Either way all that it holds goes back. Only the death of an engine ends more.
Knows no phases: the controller says when what moves.
"""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from vllm.v1.engine.exceptions import EngineDeadError

from seesaw_core.messages import PathTotals
from seesaw_core.resharding.ledger import Ledger
from seesaw_worker.modes.resharding import requests
from seesaw_worker.modes.resharding.decode_requests import InDecode
from seesaw_worker.modes.resharding.handover import EngineCore, Engines
from seesaw_worker.modes.resharding.kv.transfer import BufferTicket, Progress
from seesaw_worker.modes.resharding.meters import CostMeter
from seesaw_worker.modes.resharding.prefill_requests import InPrefill
from seesaw_worker.modes.resharding.waiting import Prompt, WaitingPrompts

logger = logging.getLogger("vllm.seesaw.paths")


class Paths:
    """Moves requests along and keeps the books. Requires: one event loop for all calls."""

    def __init__(
        self, ledger: Ledger, engines: Engines, meter: CostMeter, clock: Callable[[], float]
    ) -> None:
        self.totals = PathTotals()
        self.decode_runs = True
        self.waiting = WaitingPrompts(by_priority=engines.by_priority)
        self.prefilling = InPrefill(ledger)
        self.decoding = InDecode(ledger, engines.decode_room, meter.in_place, clock)
        self._capacity_tokens, self._block_size = ledger.capacity_tokens, ledger.block_size
        self._prefill, self._decode = engines.prefill, engines.decode
        self._meter, self._now = meter, clock
        self._keys = itertools.count()
        self._aborting: set[asyncio.Task[None]] = set()

    @property
    def is_empty(self) -> bool:
        return not (self.waiting or self.prefilling or self.decoding)

    def next_key(self) -> str:
        """A name that no other prompt has."""
        return f"seesaw-{next(self._keys)}"

    # ---- along the path

    async def submit(self, request: Any) -> None:
        """Take a request: it waits, or goes in place at once. Raises: what is wrong with it."""
        try:
            tokens = requests.carried_tokens(request)
            requests.check_transport(request)
            if tokens is None or not 0 < tokens <= self._capacity_tokens:
                await self._send_in_place(request)
            else:
                self.waiting.add(self.next_key(), request, tokens, self._now())
        except BaseException:  # one that is cancelled is aborted by nobody else
            self._give_all_back(request.request_id)
            raise

    async def admit(self, count: int) -> None:
        """Give the first waiting prompts to the prefill engine."""
        for prompt in self.waiting.first(count):
            if prompt.key not in self.waiting:
                continue  # aborted while an earlier one was sent
            sent = False
            with self._ends_alone(*itertools.islice(prompt.readers, 1)):
                await self._send_to_prefill(prompt)
                sent = True
            if not sent:
                await self.pass_on(prompt)

    async def take_in_place(self, count: int) -> None:
        """Give the first waiting prompts to the decode engine, prompt and all."""
        for prompt in self.waiting.first(count):
            await self._move_in_place(prompt)

    async def prefilled(self, output: Any) -> None:
        """Pass a prompt on to the decode engine, with its KV or, if that failed, without."""
        prompt = self.prefilling.find(output.request_id)
        if prompt is None:
            return  # aborted
        ticket = None
        with self._ends_alone(*itertools.islice(prompt.readers, 1)):
            self.prefilling.end(prompt)
            if requests.is_prefilled(output):
                self._meter.wave.add(prompt.num_tokens, self._now())
                ticket = self.prefilling.store(prompt, requests.num_cached_tokens(output))
        if ticket is None:
            await self._move_in_place(prompt)
            return
        for request in list(prompt.readers.values()):
            if request.request_id in prompt.readers:  # and not aborted while an earlier was sent
                with self._ends_alone(request.request_id):
                    self.decoding.expect_loading(request.request_id, prompt.key)
                    self.prefilling.hand_on(request.request_id)
                    await self._send_to_load(request, ticket)
                    ticket = self._shared(ticket)

    async def pass_on(self, prompt: Prompt) -> None:
        """Let the decode engine do in place what the prefill engine has or might have begun."""
        await self._move_in_place(prompt)
        await self._abort_in(self._prefill, [prompt.key])

    async def abort(self, request_ids: Iterable[str]) -> None:
        """Forget requests wherever they are. Unknown ones are ignored."""
        in_decode, in_prefill = [], []
        for request_id in dict.fromkeys(request_ids):
            with self._ends_alone(request_id):
                prompt = self._leave(request_id)
                if prompt is None and self.decoding.forget(request_id):
                    in_decode.append(request_id)
                elif prompt is not None and not prompt.readers:
                    in_prefill.append(prompt.key)
        await self._abort_in(self._decode, in_decode)
        await self._abort_in(self._prefill, in_prefill)

    def observe_outputs(self, outputs: Iterable[Any]) -> None:
        for output in outputs:
            with self._ends_alone(output.request_id):
                self.decoding.observe_output(output)

    def observe_progress(self, progress: Progress, request_id: str) -> None:
        with self._ends_alone(request_id):
            self.decoding.observe_progress(progress, request_id)

    # ---- one step of it

    async def _send_to_prefill(self, prompt: Prompt) -> None:
        first = next(iter(prompt.readers.values()))
        ticket = self.prefilling.enter(prompt)
        self.waiting.remove(prompt.key)
        request = requests.for_prefill(first, ticket, prompt.priority)
        await self._prefill.add_request_async(request)

    async def _move_in_place(self, prompt: Prompt) -> None:
        for request in list(prompt.readers.values()):
            with self._ends_alone(request.request_id):
                if self._leave(request.request_id) is not None:
                    await self._send_in_place(request)

    async def _send_in_place(self, request: Any) -> None:
        self.decoding.expect_in_place(request, measured=self.decode_runs)
        await self._decode.add_request_async(requests.for_decode(request, None))
        self.totals = replace(
            self.totals,
            in_place_requests=self.totals.in_place_requests + 1,
            in_place_tokens=self.totals.in_place_tokens + requests.num_prompt_tokens(request),
        )

    async def _send_to_load(self, request: Any, ticket: BufferTicket) -> None:
        await self._decode.add_request_async(requests.for_decode(request, ticket))
        self.totals = replace(
            self.totals,
            reshard_requests=self.totals.reshard_requests + 1,
            reshard_tokens=self.totals.reshard_tokens + requests.num_prompt_tokens(request),
        )

    def _shared(self, ticket: BufferTicket) -> BufferTicket:
        """For one more reader: nothing was computed for it that a prefix cache would have had."""
        whole_blocks = ticket.num_tokens // self._block_size
        return replace(ticket, num_cached_tokens=whole_blocks * self._block_size)

    def _leave(self, request_id: str) -> Prompt | None:
        """Take a request out that has not come to the decode engine; None if it has."""
        waiting = self.waiting.leave(request_id)
        return self.prefilling.leave(request_id) or waiting

    # ---- where failures end

    @contextlib.contextmanager
    def _ends_alone(self, *request_ids: str) -> Iterator[None]:
        """Whatever is raised inside ends these requests and nothing else."""
        try:
            yield
        except EngineDeadError:
            raise  # and so does every other request
        except Exception:
            for request_id in request_ids:
                self._give_all_back(request_id)
            self._decode.outputs_queue.put_nowait(requests.failed(request_ids))
            logger.exception("requests %.500r failed on their way", request_ids)

    def _give_all_back(self, request_id: str) -> None:
        """Take a failed request out of all the books, even if one of them fails as well."""
        for leave in (self.waiting.leave, self.prefilling.leave, self.decoding.give_up):
            try:
                if leave(request_id) is True:
                    self._abort_later(request_id)
            except Exception:
                logger.exception("%r failed for request %.200r", leave, request_id)

    def _abort_later(self, request_id: str) -> None:
        """Tell the decode engine, which may have the request, without waiting for it."""
        task = asyncio.get_running_loop().create_task(self._abort_in(self._decode, [request_id]))
        self._aborting.add(task)
        task.add_done_callback(self._aborting.discard)

    async def _abort_in(self, core: EngineCore, ids: list[str]) -> None:
        """Abort in one engine core; ids that cannot be sent keep no other from being sent."""
        if not ids:
            return
        try:
            await core.abort_requests_async(ids)
        except Exception as error:
            if len(ids) == 1:
                logger.warning("request %.200r cannot be aborted", ids[0], exc_info=error)
                return
            for one in ids:
                await self._abort_in(core, [one])
