"""Runs the router as one process, which SIGTERM drains."""

import asyncio
import contextlib
import gc
import logging
import math
import signal
import socket
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import cast

import uvicorn

from seesaw_flags.listening import bind, listening
from seesaw_flags.logs import configure_logs
from seesaw_router.dispatch.discovery import configure
from seesaw_router.limits import raise_open_files
from seesaw_router.server.app import Router
from seesaw_router.server.protocol import ClientProtocol
from seesaw_router.settings import RouterSettings

logger = logging.getLogger(__name__)

_BACKLOG = 4096
_ABORT_AFTER_S = 1.0
_NEW_OBJECTS = 10_000  # between garbage collections, which took a tenth of each request's time


class _Uvicorn(uvicorn.Server):
    """A server that ends with exit code 0 when it was asked to end."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, because uvloop would not report a failure. Raises: OSError."""
        for each in sockets or ():
            each.listen(_BACKLOG)
        await super().startup(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        yield

    def _end(self) -> None:
        """Drain at the first signal; wait for nothing more at the second."""
        logger.info("ending now" if self.should_exit else "draining; signal again to stop now")
        if self.should_exit:
            for task in self.server_state.tasks:
                task.cancel()
            asyncio.get_running_loop().call_later(_ABORT_AFTER_S, self._abort)
        self.should_exit = True

    def _abort(self) -> None:
        """Close the connections of clients that have not taken their answers."""
        for connection in list(self.server_state.connections):
            cast("ClientProtocol", connection).abort()


class Server:
    """One router's server.

    Call order: :meth:`run` once; :meth:`stop` from anywhere. Raises: InputError if it cannot
    listen on its host and port.
    """

    def __init__(self, settings: RouterSettings) -> None:
        configure_logs(settings.log)
        self._listeners = bind(settings.port, settings.host)
        limits = settings.limits
        limits = replace(limits, connections=raise_open_files(limits.connections))
        router = Router(replace(settings, limits=limits))
        protocol = partial(ClientProtocol, clients=router.clients)
        config = uvicorn.Config(
            router.app(),
            http=cast("type[ClientProtocol]", protocol),
            ws="none",
            access_log=False,
            log_config=None,  # uvicorn logs like everything else
            log_level="warning",
            lifespan="on",
            timeout_graceful_shutdown=math.ceil(settings.drain_timeout_s),
            backlog=_BACKLOG,
            # Workers send these headers themselves, and clients' proxy headers are not trusted.
            date_header=False,
            server_header=False,
            proxy_headers=False,
        )
        self._settings = settings
        self._server = _Uvicorn(config)

    def run(self) -> int:
        """Serve until stopped. Returns the exit code.

        Raises: InputError if there is no access to Kubernetes but ``service`` is set, or if
        another process has started to listen on the same port.
        """
        if self._settings.service is not None:
            asyncio.run(configure())
        gc.freeze()  # what has been imported stays
        gc.set_threshold(_NEW_OBJECTS, 5, 5)
        with listening(self._settings.port, self._settings.host):
            self._server.run(self._listeners)
        return 0 if self._server.started else 1

    def stop(self) -> None:
        """Finish running requests, and end."""
        self._server.should_exit = True
