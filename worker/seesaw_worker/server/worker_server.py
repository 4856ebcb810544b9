"""The worker's HTTP server: vLLM's own OpenAI server on a mode's engine client.

Until the engines are loaded, a small server on the same socket answers ``/health`` with 503 and
``/seesaw/state`` with the progress. On SIGTERM the server drains: it takes no new connections,
finishes running requests and exits with code 0. When a process of an engine dies, clients get an
error at once and the server exits with code 1.
"""

import asyncio
import contextlib
import signal
import socket
import time
from argparse import Namespace
from collections.abc import AsyncIterator
from typing import NoReturn

import psutil
import uvicorn
from prometheus_client import REGISTRY

from seesaw_core.errors import EngineDiedError, InputError
from seesaw_core.messages import Proposal, Stage
from seesaw_worker.modes.mode import Hooks, Mode, ModeClient
from seesaw_worker.planning.live import Replanner
from seesaw_worker.planning.start import Planned
from seesaw_worker.processes.liveness import Liveness
from seesaw_worker.processes.stalls import Verdict, explain
from seesaw_worker.processes.watchdog import ENDING
from seesaw_worker.server.commandline import address, listen
from seesaw_worker.server.http import early_app, routes
from seesaw_worker.server.loading import loading_failure
from seesaw_worker.server.shutdown import end_now, end_whatever_hangs, say
from seesaw_worker.server.telemetry import Telemetry
from seesaw_worker.settings.worker import WorkerSettings
from seesaw_worker.upstream.crash_reasons import save_last_line, with_cause
from seesaw_worker.upstream.openai_server import (
    QuietServer,
    certificate_refresher,
    openai_app,
    uvicorn_config,
)

_ERROR_GRACE_S = 2.0
_FRONT_END_POLL_S = 0.5
_TICK_S = 5.0
_LOSS_GRACE_S = 3.0


class WorkerServer:
    """One worker from start to exit code.

    Call order: :meth:`run` once.
    """

    def __init__(
        self,
        args: Namespace,
        settings: WorkerSettings,
        mode: Mode,
        planned: Planned | None = None,
    ) -> None:
        self._args = args
        self._settings = settings
        self._mode = mode
        self._telemetry = Telemetry(mode, REGISTRY)
        self._server: uvicorn.Server | None = None
        self._stop = asyncio.Event()
        self._breaking: asyncio.Task[None] | None = None
        self._exit_code = 0
        self._began_s = psutil.Process().create_time()
        self._replanner: Replanner | None = None
        if planned is not None:
            self._replanner = Replanner(planned, self._telemetry.traffic.totals, self._on_proposal)
            self._telemetry.attach_plan(self._replanner)
            self._report(Stage.STARTING, str(planned))

    async def run(self) -> int:
        """Serve until a signal stops the worker. Returns the exit code.

        Raises: InputError for input that cannot work, before anything is loaded.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        listener = listen(self._args)
        hooks = Hooks(
            report=self._on_report,
            publish=self._telemetry.publish,
            on_death=self._on_death,
        )
        try:
            async with self._early_answers(listener):
                await self._prepare(hooks)
                client = await self._start(hooks)
            await self._serve(client, listener)
            if self._exit_code:
                self._end_now(self._exit_code)
            end_whatever_hangs(0, self._mode.close)
            await asyncio.to_thread(client.shutdown, 5.0)
        finally:
            with ENDING:
                self._mode.close()
        return self._exit_code

    def _end_now(self, code: int) -> NoReturn:
        end_now(code, self._mode.close)

    async def _prepare(self, hooks: Hooks) -> None:
        """Run all checks, one of which may download a model. Exits on a signal."""
        preparing = asyncio.create_task(self._mode.prepare(hooks))
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait((preparing, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not preparing.done():
            self._report(Stage.DRAINING, "stopped while starting")
            self._end_now(0)
        stopping.cancel()
        await preparing

    async def _start(self, hooks: Hooks) -> ModeClient:
        """Load the model. Exits if a signal comes first or an engine cannot start."""
        starting = asyncio.create_task(self._make_ready(hooks))
        stopping = asyncio.create_task(self._stop.wait())
        failing = asyncio.create_task(loading_failure(self._settings.stall))
        await asyncio.wait((starting, stopping, failing), return_when=asyncio.FIRST_COMPLETED)
        if failing.done():  # vLLM may report the cause in a moment, or never notice
            await asyncio.wait(
                (starting, stopping), timeout=_LOSS_GRACE_S, return_when=asyncio.FIRST_COMPLETED
            )
        if stopping.done():
            self._report(Stage.DRAINING, "stopped while loading")
            self._end_now(0)
        stopping.cancel()
        if failing.done() and not starting.done():
            self._report(Stage.BROKEN, with_cause(failing.result()))
            self._end_now(1)
        failing.cancel()
        # After a failure, exit without joining threads: the one that starts the other engine may
        # wait for the failed engine for ever.
        error = starting.exception()
        if isinstance(error, InputError):
            say(f"seesaw worker: {error}")
            self._end_now(2)
        if error is not None:
            self._report(Stage.BROKEN, with_cause(f"an engine could not start ({error})"))
            self._end_now(1)
        return starting.result()

    async def _make_ready(self, hooks: Hooks) -> ModeClient:
        self._report(Stage.LOADING, self._mode.summary)
        ticker = asyncio.create_task(self._tick())
        try:
            client = await self._mode.start(hooks)
        finally:
            ticker.cancel()
        await client.get_supported_tasks()  # vLLM caches them; asked later, a stall would block
        return client

    async def _serve(self, client: ModeClient, listener: socket.socket) -> None:
        args = self._args
        app = await openai_app(client, args)
        app.include_router(routes(self._telemetry))
        config = uvicorn_config(app, args)
        config.timeout_graceful_shutdown = max(1, round(self._settings.drain_timeout_s))
        config.load()
        self._server = QuietServer(config)
        app.state.server = self._server  # vLLM's handler of engine errors stops it
        refresher = certificate_refresher(config, args)
        helpers = [
            asyncio.create_task(self._stop_server()),
            asyncio.create_task(self._watch_front_end(client)),
            asyncio.create_task(self._watch_liveness(client)),
        ]
        if self._replanner is not None:
            helpers.append(asyncio.create_task(self._replanner.run()))
        self._report(Stage.SERVING, address(listener, args))
        for helper in helpers:
            helper.add_done_callback(self._on_helper_end)
        await self._server.serve(sockets=[listener])
        for helper in helpers:
            helper.cancel()
        if refresher is not None:
            refresher.stop()
        if not self._stop.is_set():
            self._exit_code = 1  # the server ended by itself

    def _on_helper_end(self, helper: "asyncio.Task[None]") -> None:
        """End the worker if a task of the server fails, rather than serve without it."""
        if not helper.cancelled() and helper.exception() is not None:
            self._on_death(EngineDiedError(f"a part of the server failed: {helper.exception()!r}"))

    async def _stop_server(self) -> None:
        await self._stop.wait()
        assert self._server is not None
        self._server.should_exit = True

    async def _watch_front_end(self, client: ModeClient) -> None:
        """Detect failures that only vLLM's front end knows: its own and those of plain vLLM."""
        while not client.errored:
            await asyncio.sleep(_FRONT_END_POLL_S)
        self._on_death(EngineDiedError(f"vLLM's front end failed: {client.dead_error}"))

    async def _watch_liveness(self, client: ModeClient) -> None:
        """Detect stalled engines: the worker is unhealthy at first, and ends if they stay so."""

        def on_verdict(verdict: Verdict, what: str) -> None:
            if self._breaking is not None:
                return  # an engine that is being ended may look as if it continued
            client.is_stalled = verdict >= Verdict.UNHEALTHY
            if verdict is Verdict.HOPELESS:
                self._on_death(EngineDiedError(f"{what} (--stall-exit-s)"))
                client.fail()
            elif self._stop.is_set():
                self._say(f"{what}, while draining")
            else:
                stage = Stage.STALLED if client.is_stalled else Stage.SERVING
                self._report(stage, explain(verdict, what))

        liveness = Liveness(client, self._settings.stall, on_verdict, self._say)
        self._telemetry.attach_liveness(liveness)
        await liveness.run()

    @contextlib.asynccontextmanager
    async def _early_answers(self, listener: socket.socket) -> AsyncIterator[None]:
        """Answer probes on a duplicate of the socket until the engines are loaded."""
        config = uvicorn_config(early_app(self._telemetry), self._args, is_quiet=True)
        config.timeout_graceful_shutdown = 1
        server = QuietServer(config)
        task = asyncio.create_task(server.serve(sockets=[listener.dup()]))
        try:
            yield
        finally:
            self._telemetry.end_events()  # else the server would cancel them and log errors
            server.should_exit = True
            await task

    def _on_proposal(self, proposal: Proposal) -> None:
        pair = f"prefill {proposal.prefill}, decode {proposal.decode}"
        self._say(f"a better plan: {pair} (+{proposal.gain_percent} %); {proposal.reason}")

    def _on_signal(self) -> None:
        if self._stop.is_set():
            if self._server is not None:
                self._server.force_exit = True
            self._report(Stage.DRAINING, "stopping now")
            return
        self._stop.set()
        self._report(Stage.DRAINING, "finishing running requests (again to stop now)")

    def _on_report(self, line: str) -> None:
        """A mode says what it does until it serves, and afterwards what people should know."""
        if self._telemetry.stage in (Stage.STARTING, Stage.LOADING):
            self._report(Stage.STARTING, line)
        else:
            self._say(line)

    def _on_death(self, error: EngineDiedError) -> None:
        if self._breaking is not None:
            return
        self._exit_code = 1
        self._breaking = asyncio.create_task(self._break())
        self._report(Stage.BROKEN, with_cause(str(error)))

    async def _break(self) -> None:
        """Give clients time to receive the error, then end the server even if something hangs."""
        end_whatever_hangs(1, self._mode.close)
        await asyncio.sleep(_ERROR_GRACE_S)
        if self._server is not None:
            self._server.force_exit = True
        self._stop.set()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            progress = self._mode.progress
            summary = self._mode.summary
            self._report(Stage.LOADING, f"{summary}: {progress}" if progress else summary)

    def _report(self, stage: Stage, detail: str) -> None:
        self._telemetry.set_stage(stage, detail)
        line = self._say(f"{stage}: {detail}")
        if stage is Stage.BROKEN:
            save_last_line(line)

    def _say(self, text: str) -> str:
        line = f"seesaw worker [{time.time() - self._began_s:6.1f} s] {text}"
        say(line)
        return line
