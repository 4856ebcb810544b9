"""Each request's path through the worker, and the one place that handles a request's own failure.

    submit ─> waiting ─> prefill engine ─> buffer ─> decode engine ─> outputs
                 └──────────── in place ───────────────┘

An error that a request causes on its path ends that request and nothing else. While the request is
submitted, its caller gets the error, as from plain vLLM; later, its stream ends with an error, as
if the engine had reported it. Either way its resources are freed. Only the death of an engine ends
more than one request. The driver keeps the books; this module knows what the driver does not: the
requests themselves and the engines.
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
from seesaw_core.resharding import events
from seesaw_core.resharding.driver import Abort, Driver, Effect
from seesaw_core.resharding.policy import Phase
from seesaw_core.resharding.waiting import Prompt
from seesaw_worker.modes.resharding import requests
from seesaw_worker.modes.resharding.handover import EngineCore, Engines
from seesaw_worker.modes.resharding.kv.transfer import BufferTicket, Progress

logger = logging.getLogger("vllm.seesaw.paths")


class Paths:
    """Moves requests along and reports it to the driver.

    Requires: all calls come from one event loop.
    """

    def __init__(self, driver: Driver, engines: Engines, clock: Callable[[], float]) -> None:
        self.totals = PathTotals()
        self._driver, self._engines, self._now = driver, engines, clock
        self._keys = itertools.count()
        self._requests: dict[str, Any] = {}  # those that the decode engine does not have yet
        self._abort_tasks: set[asyncio.Task[None]] = set()

    def next_key(self) -> str:
        """Return a key that no other prompt has."""
        return f"seesaw-{next(self._keys)}"

    def observe(self, event: events.Event) -> tuple[Effect, ...]:
        """Report an event to the driver."""
        return self._driver.observe(event, self._now())

    # ---- along the path

    async def submit(self, request: Any) -> None:
        """Accept a request, which waits or goes in place at once. Raises: its own error."""
        try:
            tokens = requests.carried_tokens(request)
            requests.check_transport(request)
            if tokens is None or not self._driver.may_wait(tokens):
                await self._send_in_place(request)
            else:
                self._requests[request.request_id] = request
                self.observe(
                    events.Arrived(
                        request_id=request.request_id,
                        key=self.next_key(),
                        num_tokens=tokens,
                        identity=requests.prompt_identity(request),
                        priority=request.priority,
                    )
                )
        except BaseException:  # also a cancellation, after which nothing else would abort it
            self._drop_failed(request.request_id)
            raise

    async def admit(self, keys: Iterable[str]) -> None:
        """Send waiting prompts to the prefill engine."""
        for key in keys:
            prompt = self._driver.waiting.find(key)
            if prompt is None:
                continue  # aborted while an earlier one was sent
            sent = False
            with self._isolating_failure(*itertools.islice(prompt.readers, 1)):
                await self._send_to_prefill(prompt)
                sent = True
            if not sent:
                await self.abandon_prefill(prompt)

    async def prefill_in_place(self, keys: Iterable[str]) -> None:
        """Send waiting prompts to the decode engine, which prefills them in place."""
        for key in keys:
            prompt = self._driver.waiting.find(key)
            if prompt is not None:
                await self._move_in_place(prompt)

    async def prefilled(self, output: Any) -> None:
        """Send a prompt on to the decode engine, with its KV or, if prefilling failed, without."""
        prompt = self._driver.prefilling.find(output.request_id)
        if prompt is None:
            return  # aborted
        ticket = None
        with self._isolating_failure(*itertools.islice(prompt.readers, 1)):
            self.observe(events.PrefillEnded(key=prompt.key))
            if requests.is_prefilled(output):
                num_cached_tokens = requests.num_cached_tokens(output)
                self.observe(events.Stored(key=prompt.key))
                ticket = self._ticket(prompt, num_cached_tokens)
        if ticket is None:
            await self._move_in_place(prompt)
            return
        for request_id in list(prompt.readers):
            request = self._requests.pop(request_id, None)
            if request is not None:  # and not aborted while an earlier one was sent
                with self._isolating_failure(request_id):
                    self.observe(events.SentToLoad(request_id=request_id, key=prompt.key))
                    await self._send_to_load(request, ticket)
                    ticket = self._shared(ticket)

    async def abandon_prefill(self, prompt: Prompt) -> None:
        """Move a prompt that the prefill engine may have started to the decode engine, in place."""
        await self._move_in_place(prompt)
        await self._abort_in(self._engines.prefill, [prompt.key])

    async def abort(self, request_ids: Iterable[str]) -> None:
        """Abort requests wherever they are. Unknown requests are ignored."""
        effects: list[Effect] = []
        for request_id in dict.fromkeys(request_ids):
            with self._isolating_failure(request_id):
                self._requests.pop(request_id, None)
                effects += self.observe(events.Aborted(request_id=request_id))
        await self._send_aborts(effects)

    def observe_outputs(self, outputs: Iterable[Any]) -> None:
        for output in outputs:
            with self._isolating_failure(output.request_id):
                request_id = output.request_id
                if output.finish_reason is not None:
                    ending = requests.ending(output)
                    self.observe(events.Ended(request_id=request_id, ending=ending))
                elif output.new_token_ids and self._driver.decoding.awaits_output(request_id):
                    self.observe(events.Begun(request_id=request_id))

    def observe_progress(self, progress: Progress, request_id: str) -> None:
        is_loading = progress is Progress.LOADING
        with self._isolating_failure(request_id):
            event = events.Loading if is_loading else events.Released
            self.observe(event(request_id=request_id))

    # ---- single steps of a path

    async def _send_to_prefill(self, prompt: Prompt) -> None:
        first = self._requests[next(iter(prompt.readers))]
        self.observe(events.Admitted(key=prompt.key))
        request = requests.for_prefill(first, self._ticket(prompt, 0), prompt.priority)
        await self._engines.prefill.add_request_async(request)

    async def _move_in_place(self, prompt: Prompt) -> None:
        for request_id in list(prompt.readers):
            request = self._requests.pop(request_id, None)
            if request is not None:
                with self._isolating_failure(request_id):
                    await self._send_in_place(request)

    async def _send_in_place(self, request: Any) -> None:
        tokens = requests.num_prompt_tokens(request)
        self.observe(events.SentInPlace(request_id=request.request_id, num_tokens=tokens))
        await self._engines.decode.add_request_async(requests.for_decode(request, None))
        self.totals = replace(
            self.totals,
            in_place_requests=self.totals.in_place_requests + 1,
            in_place_tokens=self.totals.in_place_tokens + tokens,
        )

    async def _send_to_load(self, request: Any, ticket: BufferTicket) -> None:
        await self._engines.decode.add_request_async(requests.for_decode(request, ticket))
        self.totals = replace(
            self.totals,
            reshard_requests=self.totals.reshard_requests + 1,
            reshard_tokens=self.totals.reshard_tokens + requests.num_prompt_tokens(request),
        )

    def _ticket(self, prompt: Prompt, num_cached_tokens: int) -> BufferTicket:
        return BufferTicket(
            key=prompt.key,
            num_tokens=prompt.num_tokens,
            blocks=self._driver.ledger.entry(prompt.key).blocks,
            num_cached_tokens=num_cached_tokens,
        )

    def _shared(self, ticket: BufferTicket) -> BufferTicket:
        """Return a ticket for one more reader, for which nothing had to be computed."""
        block_size = self._driver.ledger.block_size
        return replace(ticket, num_cached_tokens=ticket.num_tokens // block_size * block_size)

    # ---- failures and aborts

    @contextlib.contextmanager
    def _isolating_failure(self, *request_ids: str) -> Iterator[None]:
        """End these requests, and nothing else, on any error inside."""
        try:
            yield
        except EngineDeadError:
            raise  # all requests end
        except Exception:
            for request_id in request_ids:
                self._drop_failed(request_id)
            self._engines.decode.outputs_queue.put_nowait(requests.failed(request_ids))
            logger.exception("requests %.500r failed on their way", request_ids)

    def _drop_failed(self, request_id: str) -> None:
        """Remove a failed request from the books. Logs a failure of that rather than raise it."""
        self._requests.pop(request_id, None)
        try:
            effects = self.observe(events.Failed(request_id=request_id))
        except Exception:
            logger.exception("request %.200r could not be removed from the driver", request_id)
        else:
            if effects:
                self._send_aborts_later(effects)

    def _send_aborts_later(self, effects: Iterable[Effect]) -> None:
        """Send aborts to the engines, which may have the request, without waiting for them."""
        task = asyncio.get_running_loop().create_task(self._send_aborts(effects))
        self._abort_tasks.add(task)
        task.add_done_callback(self._abort_tasks.discard)

    async def _send_aborts(self, effects: Iterable[Effect]) -> None:
        """Send the driver's aborts to the engines."""
        aborts = [effect for effect in effects if isinstance(effect, Abort)]
        for phase in (Phase.DECODE, Phase.PREFILL):
            names = [abort.name for abort in aborts if abort.engine is phase]
            await self._abort_in(self._engines.of(phase), names)

    async def _abort_in(self, core: EngineCore, ids: list[str]) -> None:
        """Abort requests in one engine core. An id that cannot be sent does not stop the others."""
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
