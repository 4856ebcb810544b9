"""Workers that say odd things of themselves: each is its own trouble and nobody else's."""

import asyncio
import json
from contextlib import AsyncExitStack

from support.fake_worker.odd import EVENTS_HEAD, OddWorker, answer, close, event, events, hang, raw
from support.fake_worker.router import router_before

TRANSITION = b'event: transition\ndata: {"number": 1}\n\n'
SECONDS = dict.fromkeys(("pause_s", "weights_s", "resume_s", "total_s"), 0.1)
TRANSITIONED = {"number": 1, "to": "prefill", "reason": "", "weight_bytes": 1} | SECONDS
MOVED = f"event: transition\ndata: {json.dumps(TRANSITIONED)}\n\n".encode()

# What each tells in its event stream, and what the router's log must say of it.
UNREAD = {
    "a stage of a later version": (events(event(stage="resting")), "stage must be"),
    "no phase": (events(event(phase=...)), "phase is missing"),
    "a buffer of another type": (events(event(buffer=[1])), "buffer must be"),
    "a number that is none": (events(event(waiting_tokens="many")), "waiting_tokens must be"),
    "not a number": (events(event(phase_age_s=float("nan"))), "NaN"),
    "a huge number": (events(event(transitions=10**100)), "transitions must be"),
    "a transition without to": (events(event(), TRANSITION), "to is missing"),
    "no JSON": (events(b"event: state\ndata: {\n\n"), "is not JSON"),
    "bytes that are no text": (events(b"event: state\ndata: \xff\xfe\n\n"), "is not UTF-8"),
    "deep nesting": (events(b"event: state\ndata: " + b"[" * 60_000 + b"\n\n"), "nested"),
    "a line without end": (events(b"event: state\ndata: " + b"x" * 60_000, every_s=0), "longer"),
    "too many events": (events(b"data: 1\n\n" * 2000), "events a second"),
    "another content type": (answer(), "content-type must be"),
    "an error": (answer(status="500 Oops"), "with status 500"),
    "a redirect": (answer(status="302 Found", headers="location: http://[\r\n"), "with status 302"),
    "no HTTP": (raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n", hang), "cannot be reached"),
    "headers without end": (raw(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 5000, hang), "cannot be"),
    "silence": (hang, "sends no events"),
    "silence after a state": (raw(EVENTS_HEAD + event(), hang), "sends no events"),
    "comments for ever": (events(event(), b": still here\n\n"), "sends no events"),
    "transitions alone": (events(MOVED), "sends no events"),
    "a mode that is no text": (events(event(mode="\ud800")), "mode must be"),
    "events that end": (raw(EVENTS_HEAD + event(), close), "has ended"),
}


async def test_what_cannot_be_read_of_one_worker_is_told_of_it_and_stops_nobody() -> None:
    async with AsyncExitStack() as stack:
        good = await stack.enter_async_context(OddWorker().running())
        odd = {
            name: await stack.enter_async_context(OddWorker(events=act).running())
            for name, (act, _) in UNREAD.items()
        }
        urls = [w.url for w in odd.values()]
        router = await stack.enter_async_context(router_before(*urls, good.url))
        await router.until_serving(good.url)
        for _ in range(70):
            assert (await router.ask())[0] == 200
            await asyncio.sleep(0.1)
        assert (await router.workers())[good.url].serving
        log = router.logged()
        for name, (_, reason) in UNREAD.items():
            lines = [x for x in log.splitlines() if f"worker {odd[name].url} does not serve" in x]
            assert any(reason in line for line in lines), (name, lines)
        assert f"worker {good.url} does not" not in log.replace("answered yet", "")
