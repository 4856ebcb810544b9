"""A proxy between an operator and the apiserver, which counts calls."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import aiohttp
from aiohttp import web

from seesaw_cli.serve.local import free_port
from support.control_plane.apiserver import ApiServer

HEADERS = ("Content-Type", "Accept", "Authorization", "User-Agent")

Call = tuple[str, str]


class Proxy:
    """Between an operator and the apiserver: counts calls, and may end the operator after one.

    ``on_write`` hears the number of each write once it has taken effect, before its answer is
    passed on: the worst moment for the one that waits for it. ``refuse`` may give a status with
    which a call is answered without being passed on.
    """

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self.calls: list[Call] = []
        self.on_write: Callable[[int], None] = lambda _: None
        self.refuse: Callable[[Call], int | None] = lambda _: None
        self.hang: Callable[[Call], bool] = lambda _: False  # what is never answered
        self.mute: Callable[[Call], bool] = lambda _: False  # what is not told any more
        self.url = ""
        self._open: list[web.Request] = []

    def cut(self) -> int:
        """Break off every answer that is under way, watches above all. Returns how many."""
        count = 0
        for request in self._open:
            if request.transport is not None:
                request.transport.abort()
                count += 1
        return count

    @property
    def writes(self) -> list[Call]:
        return [c for c in self.calls if c[0] != "GET" and "/leases" not in c[1]]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Proxy"]:
        async with self._server.session() as self._http:
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", self._pass)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            port = free_port()
            await web.TCPSite(runner, "127.0.0.1", port).start()
            self.url = f"http://127.0.0.1:{port}"
            try:
                yield self
            finally:
                await runner.cleanup()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        call = request.method, request.path_qs
        self.calls.append(call)
        if self.hang(self.calls[-1]):
            await asyncio.Event().wait()
        refused = self.refuse(self.calls[-1])
        if refused is not None:
            await request.read()
            return web.json_response({"message": "by the test"}, status=refused)
        headers = {n: request.headers[n] for n in HEADERS if n in request.headers}
        headers["Authorization"] = f"Bearer {self._server.token}"
        data = await request.read()
        async with self._http.request(
            request.method,
            request.path_qs,
            data=data or None,
            headers=headers,
            skip_auto_headers=["Content-Type"],
        ) as answer:
            if request.method != "GET" and "/leases" not in request.path:
                self.on_write(len(self.writes))
            response = web.StreamResponse(
                status=answer.status, headers={"Content-Type": answer.content_type}
            )
            with contextlib.suppress(ConnectionError, aiohttp.ClientError):
                await response.prepare(request)
                self._open.append(request)
                async for chunk in answer.content.iter_any():
                    if not self.mute(call):
                        await response.write(chunk)
            self._open = [r for r in self._open if r is not request]
            return response
