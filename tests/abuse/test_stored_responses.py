"""A stored response is asked of the worker that made it."""

from support.fake_worker.odd import Act, Asked, OddWorker, answer
from support.fake_worker.raw_client import ask, request, status_of
from support.fake_worker.router import router_before


def storing(number: int, asked_all: list[tuple[int, str]]) -> Act:
    """A worker that knows one response."""
    name = f"resp_{number}"

    async def act(asked: Asked) -> None:
        asked_all.append((number, asked.path))
        known = asked.path.startswith(f"/v1/responses/{name}") or asked.path == "/v1/responses"
        body = b'{"id": "%s"}' % name.encode()
        await answer(body, "200 OK" if known else "404 Not Found")(asked)

    return act


async def test_a_stored_response_is_asked_of_its_worker_whoever_made_it_known() -> None:
    asked: list[tuple[int, str]] = []
    workers = [OddWorker(answer=storing(number, asked)) for number in range(3)]
    async with (
        workers[0].running(),
        workers[1].running(),
        workers[2].running(),
        router_before(*(w.url for w in workers)) as router,
    ):
        await router.until_serving(*(w.url for w in workers))
        for number in range(3):  # unknown to the router: it asks them all
            got = await ask(router.url, request(f"/v1/responses/resp_{number}", b"", method="GET"))
            assert status_of(got) == 200
        assert (
            status_of(await ask(router.url, request("/v1/responses/no", b"", method="GET"))) == 404
        )
        asked.clear()
        for number in range(3):  # known by now: nobody else is asked
            cancel = request(f"/v1/responses/resp_{number}/cancel", b"")
            assert status_of(await ask(router.url, cancel)) == 200
            on = b'{"input": "y", "previous_response_id": "resp_%d"}' % number
            assert status_of(await ask(router.url, request("/v1/responses", on))) == 200
        expected = [
            (number, path)
            for number in range(3)
            for path in (f"/v1/responses/resp_{number}/cancel", "/v1/responses")
        ]
        assert asked == expected
