"""Passes a worker's answer back to the client."""

from collections.abc import Callable

from seesaw_router.server.exchange import Exchange
from seesaw_router.server.headers import to_client
from seesaw_router.server.worker_call import WorkerCall

_BODILESS = {204, 304}
_WHOLE_BYTES = 256 << 10  # a longer answer is passed on in parts


async def pass_back(
    exchange: Exchange, call: WorkerCall, learn: Callable[[bytes], None] | None
) -> None:
    """Pass the answer back as it arrives.

    A short answer starts only when all of it is there, and a longer one when its first part is:
    until then the request can be retried elsewhere. ``learn`` gets the beginning of the body.
    """
    response = call.response
    length = response.content_length
    if exchange.method == "HEAD" or response.status in _BODILESS:
        await call.whole()
        exchange.drop_body()
        declared = length if exchange.method == "HEAD" and response.status != 204 else None
        await exchange.begin(response.status, to_client(response.raw_headers, declared))
        await exchange.send({"type": "http.response.body", "body": b""})
        return
    if length is not None and length <= _WHOLE_BYTES:
        body = await call.whole()
        if learn is not None:
            learn(body)
        exchange.drop_body()
        await exchange.begin(response.status, to_client(response.raw_headers, len(body)))
        await exchange.send({"type": "http.response.body", "body": body})
        return
    part = await call.part()
    if learn is not None:
        learn(part)
    exchange.drop_body()
    await exchange.begin(response.status, to_client(response.raw_headers, length))
    await call.pass_on(part, exchange.send)
