"""Follows one worker: its event stream, or ``/health`` if it has no events.

Whatever a worker sends or does affects only what the router knows of that worker.
"""

import asyncio
import contextlib
import logging
from dataclasses import dataclass

import aiohttp

from seesaw_core.errors import MessageError
from seesaw_core.event_stream import EventParser
from seesaw_core.messages import EventKind, TransitionEvent, WorkerState
from seesaw_core.reading import read_event
from seesaw_router.dispatch.backend import Backend
from seesaw_router.dispatch.connections import error_text

logger = logging.getLogger(__name__)

_HAS_NO_EVENTS = {404, 405, 501}
_MARGIN_S = 0.1
_FOLLOWED = (EventKind.STATE, EventKind.TRANSITION)  # other events are for people


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Bounds how often a worker is contacted, and how long it may be silent. Units: seconds.

    retry_s: between two attempts to reach the worker.
    retry_unreadable_s: the longest pause between attempts while its answers cannot be read.
    poll_s: between two requests for ``/health`` of a worker without events.
    ask_again_s: how often such a worker is asked for events again; it may have been upgraded.
    silence_s: after so long without a state or transition the worker gets no new requests; it
        sends a state every second.
    dead_s: after so long without any data the requests of the worker are cancelled.
    """

    retry_s: float = 0.5
    retry_unreadable_s: float = 30.0
    poll_s: float = 1.0
    ask_again_s: float = 30.0
    silence_s: float = 5.0
    dead_s: float = 30.0


def follow(backend: Backend, pace: Pace) -> "asyncio.Task[None]":
    """Keep a backend up to date, until the task is cancelled."""
    return asyncio.create_task(Follower(backend, pace).run())


class Follower:
    """Keeps a backend up to date.

    Call order: :meth:`run` as a task; :meth:`check_health` at any time.
    """

    def __init__(self, backend: Backend, pace: Pace) -> None:
        self._backend = backend
        self._http = backend.connections.control
        self._pace = pace
        self._num_unreadable = 0
        self._listening: asyncio.Timeout | None = None
        self._health_check: asyncio.Task[None] | None = None
        backend.check_health = self.check_health

    async def run(self) -> None:
        """Follow the worker for ever."""
        try:
            await self._run()
        finally:
            if self._health_check is not None:
                self._health_check.cancel()

    async def _run(self) -> None:
        name = self._backend.target.name
        while True:
            began_s = asyncio.get_running_loop().time()
            trouble, wait_s = "", self._pace.retry_s
            try:
                trouble = await self._follow()
            except MessageError as error:
                trouble = f"its events cannot be read: {error_text(error)}"
                wait_s = self._unreadable_pause_s(began_s)
            except TimeoutError:
                trouble = "it sends no events"
            except (aiohttp.ClientError, OSError) as error:
                trouble = f"it cannot be reached: {error_text(error)}"
            except Exception:  # the task must not end, or this worker would no longer be followed
                logger.exception("following worker %s failed", name)
                trouble, wait_s = "following it failed", self._pace.retry_unreadable_s
            if not trouble:
                continue
            self._backend.mark_lost(trouble)
            if self._backend.num_running and self._backend.silent_s >= self._pace.dead_s:
                logger.warning("worker %s is gone: cancelling its requests", name)
                self._backend.cancel_all()
            await asyncio.sleep(wait_s)

    def check_health(self) -> None:
        """Check now whether the worker is alive, because a connection to it has failed."""
        if self._health_check is None or self._health_check.done():
            self._health_check = asyncio.create_task(self._check_now())

    async def _check_now(self) -> None:
        problem = ""
        try:
            async with asyncio.timeout(self._pace.silence_s / 2):
                status = await self._health()
            if status >= 500:
                problem = f"/health answers {status}"
        except TimeoutError:
            problem = "/health does not answer"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            problem = f"/health: {error_text(error)}"
        if problem:
            self._backend.mark_lost(f"a connection failed, and {problem}")
            if self._listening is not None:
                with contextlib.suppress(RuntimeError):  # it has just ended by itself
                    self._listening.reschedule(asyncio.get_running_loop().time())

    async def _follow(self) -> str:
        """Follow the worker until that fails. Returns why, or "" if nothing is wrong.

        Raises: MessageError, and what the network raises.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._pace.silence_s / 2)
        url = f"{self._backend.target.url}/seesaw/events"
        async with asyncio.timeout(self._patience_s()) as self._listening:
            async with self._http.get(url, timeout=timeout, allow_redirects=False) as response:
                if response.status not in _HAS_NO_EVENTS:
                    return await self._listen(response)
        return await self._poll()

    async def _listen(self, response: aiohttp.ClientResponse) -> str:
        if response.status != 200:
            return f"it answers /seesaw/events with status {response.status}"
        if response.content_type != "text/event-stream":
            raise MessageError(
                "content-type", f"must be text/event-stream, is {response.content_type!a}"
            )
        parser = EventParser()
        loop = asyncio.get_running_loop()
        while chunk := await response.content.readany():
            self._backend.heard()
            for kind, data in parser.feed(chunk, loop.time()):
                if kind not in _FOLLOWED:
                    continue
                event = read_event(kind, data)
                assert isinstance(event, WorkerState | TransitionEvent), kind
                self._backend.update(event)
                # A worker reports its state again and again, whatever else it sends.
                if isinstance(event, WorkerState) and self._listening is not None:
                    self._listening.reschedule(loop.time() + self._pace.silence_s)
        return "its event stream has ended"

    async def _poll(self) -> str:
        """Poll ``/health`` of a worker without events, such as plain vLLM."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._pace.ask_again_s
        while loop.time() < until_s:
            async with asyncio.timeout(self._pace.silence_s):
                status = await self._health()
            if status != 200:
                return f"it has no /seesaw/events, and /health answers {status}"
            self._backend.mark_static()
            await asyncio.sleep(self._pace.poll_s)
        return ""

    async def _health(self) -> int:
        url = f"{self._backend.target.url}/health"
        async with self._http.get(url, allow_redirects=False) as response:
            self._backend.heard()
            return response.status

    def _patience_s(self) -> float:
        """Returns how long to wait for an answer: at most until its requests are cancelled."""
        left_s = self._pace.dead_s - self._backend.silent_s
        if not self._backend.num_running or left_s <= 0:
            return self._pace.silence_s
        return min(self._pace.silence_s, left_s + _MARGIN_S)

    def _unreadable_pause_s(self, began_s: float) -> float:
        """Returns the next pause, which doubles until the events were readable for a while."""
        if asyncio.get_running_loop().time() - began_s > self._pace.retry_unreadable_s:
            self._num_unreadable = 0
        self._num_unreadable = min(self._num_unreadable + 1, 16)
        return min(self._pace.retry_unreadable_s, self._pace.retry_s * 2.0**self._num_unreadable)
