"""Remembers which worker stores which response: only the one that made it has it."""

import asyncio
import contextlib
import re
from collections import OrderedDict
from collections.abc import Sequence

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from seesaw_router.dispatch.backend import Backend

_MAX_KNOWN = 65_536
_LOOK_TIMEOUT_S = 2.0
_SEARCHED_BYTES = 4096
_ID = re.compile(rb'"id"\s*:\s*"([A-Za-z0-9_~-][A-Za-z0-9_.~-]{0,255})"')


class StoredResponses:
    """Names of workers by ids of responses, learned from answers; the oldest are forgotten.

    If an id is unknown, because the router is new or one of several, the workers are asked.
    """

    def __init__(self) -> None:
        self._owners: OrderedDict[str, str] = OrderedDict()

    def learn(self, first_part: bytes, worker: str) -> None:
        """Note the id at the beginning of an answer to ``/v1/responses``, streamed or not."""
        match = _ID.search(first_part[:_SEARCHED_BYTES])
        if match:
            self._note(match[1].decode(), worker)

    async def owner(
        self, name: str, workers: Sequence[Backend], headers: CIMultiDict[str]
    ) -> Backend | None:
        """Returns the worker that stores a response, if one of these does.

        headers: the client's.
        """
        known = self._owners.get(name)
        for worker in workers:
            if worker.target.name == known:
                return worker
        has_it = await asyncio.gather(*(_has(worker, name, headers) for worker in workers))
        owner = next((w for w, has in zip(workers, has_it, strict=True) if has), None)
        if owner is not None:
            self._note(name, owner.target.name)
        return owner

    def _note(self, name: str, worker: str) -> None:
        self._owners[name] = worker
        self._owners.move_to_end(name)
        if len(self._owners) > _MAX_KNOWN:
            self._owners.popitem(last=False)


async def _has(worker: Backend, name: str, headers: CIMultiDict[str]) -> bool:
    url = URL(f"{worker.target.url}/v1/responses/{name}", encoded=True)
    timeout = aiohttp.ClientTimeout(total=_LOOK_TIMEOUT_S)
    allowed = {k: v for k, v in headers.items() if k.lower() in ("authorization", "x-api-key")}
    with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError, ValueError):
        async with worker.connections.control.get(
            url, timeout=timeout, headers=allowed, allow_redirects=False
        ) as response:
            return response.status == 200
    return False
