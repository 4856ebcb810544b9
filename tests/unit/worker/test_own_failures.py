"""No request ends anything but itself, wherever on its path something is raised because of it."""

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vllm import SamplingParams
from vllm.v1.engine import EngineCoreRequest, FinishReason
from vllm.v1.engine.exceptions import EngineDeadError

from seesaw_core.resharding.decode_requests import InDecode
from seesaw_core.resharding.driver import Driver
from seesaw_core.resharding.ledger import Ledger
from seesaw_core.resharding.meters import InPlaceMeter, Wave
from seesaw_core.resharding.policy import Reshard
from seesaw_core.resharding.prefill_requests import InPrefill
from seesaw_core.resharding.waiting import WaitingPrompts
from seesaw_worker.modes.resharding import requests
from support.fake_worker.cores import Worker, request_of, running_worker

POISON = [7] * 41
MARKS = ("'poison", "'seesaw-0'", " 40, ")  # the request, its prompt's key, its prompt's size

ON_ITS_WAY: list[tuple[Any, str]] = [
    (requests, "check_transport"),
    (requests, "carried_tokens"),
    (requests, "prompt_identity"),
    (requests, "for_prefill"),
    (requests, "is_prefilled"),
    (requests, "num_cached_tokens"),
    (requests, "for_decode"),
    (requests, "num_prompt_tokens"),
    (requests, "ending"),
    (Driver, "observe"),
    (WaitingPrompts, "add"),
    (WaitingPrompts, "remove"),
    (InPrefill, "enter"),
    (InPrefill, "end"),
    (InDecode, "expect_loading"),
    (InDecode, "expect_in_place"),
    (InDecode, "end"),
    (InDecode, "load"),
    (InPlaceMeter, "sent"),
    (InPlaceMeter, "first_output"),
    (Wave, "add"),
    (Ledger, "reserve"),
    (Ledger, "pin"),
    (Ledger, "entry"),
    (Ledger, "unpin"),
    (Ledger, "store"),
    (Ledger, "load"),
    (Ledger, "release"),
    ("prefill", "add_request_async"),
    ("decode", "add_request_async"),
]
AT_THE_END = ("ending", "end")  # its last output has come
AS_IT_GOES: list[tuple[Any, str]] = [
    (WaitingPrompts, "leave"),
    (InPrefill, "leave"),
    (InDecode, "forget"),
    (InPlaceMeter, "forget"),
    (Ledger, "release"),
    ("prefill", "abort_requests_async"),
    ("decode", "abort_requests_async"),
]


def named(place: tuple[Any, str]) -> str:
    return f"{getattr(place[0], '__name__', place[0])}.{place[1]}"


class Fault:
    """Raises in one place, the first time that it works for the poisoned request."""

    def __init__(
        self,
        patch: pytest.MonkeyPatch,
        worker: Worker,
        place: tuple[Any, str],
        marks: tuple[str, ...],
    ) -> None:
        owner, name = place
        self.count = 0
        self.is_of_an_entry = owner is Ledger and name in ("release", "load")
        owner = getattr(worker, owner) if isinstance(owner, str) else owner
        works = getattr(owner, name)

        def fail(*args: Any, **kwargs: Any) -> Any:
            said = repr((args, kwargs))
            if not self.count and any(mark in said for mark in marks):
                self.count += 1
                raise RuntimeError(f"{name} cannot take this request")
            return works(*args, **kwargs)

        patch.setattr(owner, name, fail)


def others(poison: EngineCoreRequest) -> list[EngineCoreRequest]:
    """A twin of the poison's prompt, and what takes every other path."""
    return [
        request_of("twin", poison.prompt_token_ids or []),
        *(request_of(f"other {n}", [n] * n) for n in (1, 20, 33, 50, 500)),
    ]


async def serve(
    patch: pytest.MonkeyPatch,
    place: tuple[Any, str],
    poison: EngineCoreRequest,
    *,
    reshard: Reshard = Reshard.ALWAYS,
    abort_after: int | None = None,
) -> tuple[Worker, Fault]:
    """Serve a poisoned request among others, then one more. All but the poison end well."""
    async with running_worker(random.Random(1), reshard=reshard) as worker:
        fault = Fault(
            patch, worker, place, MARKS if poison.prompt_token_ids == POISON else MARKS[:1]
        )
        gone = {"poison"} if abort_after is not None else set()
        for request in (poison, *others(poison)):
            await worker.submit(request)
        if abort_after is not None:
            for _ in range(abort_after):
                await asyncio.sleep(0.0005)
            gone |= {"other 50", "twin"}
            await worker.controller.abort([*gone, "unknown"])
        await worker.nothing_left()
        await worker.submit(request_of("afterwards", [9] * 30))
        await worker.nothing_left()
        await asyncio.sleep(0)
    unhurt = {"afterwards", *(r.request_id for r in others(poison))} - gone
    if fault.count and not gone and worker.ended["twin"] is not FinishReason.LENGTH:
        # Their entry is one and the same: the fault may have been met for either.
        assert fault.is_of_an_entry
        assert worker.ended.get("poison", FinishReason.LENGTH) is FinishReason.LENGTH
        worker.ended["poison"] = worker.ended["twin"]
        unhurt -= {"twin"}
    for request_id in unhurt:
        assert worker.ended[request_id] is FinishReason.LENGTH, (request_id, worker.ended)
    assert gone or "poison" in worker.ended
    return worker, fault


@pytest.mark.parametrize("place", ON_ITS_WAY, ids=named)
def test_what_one_request_makes_raise_on_its_way_ends_that_request_alone(
    place: tuple[Any, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fired = 0
    for poison, reshard in (
        (POISON, Reshard.ALWAYS),
        (POISON, Reshard.NEVER),
        (POISON[:1], Reshard.ALWAYS),
    ):
        with monkeypatch.context() as patch:
            worker, fault = asyncio.run(
                serve(
                    patch,
                    place,
                    request_of("poison", poison),
                    reshard=reshard,
                )
            )
        fired += fault.count
        if fault.count and place[1] not in AT_THE_END and place[0] is not InPlaceMeter:
            end = worker.ended["poison"]
            assert end is FinishReason.ERROR or isinstance(end, RuntimeError), end
    assert fired, "the place is on no path: the test says nothing"


@pytest.mark.parametrize("place", AS_IT_GOES, ids=named)
def test_what_one_request_makes_raise_as_it_is_aborted_keeps_nothing_from_going(
    place: tuple[Any, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fired = 0
    for abort_after in (0, 1, 2, 3, 5, 10, 20, 40):
        with monkeypatch.context() as patch:
            _, fault = asyncio.run(
                serve(
                    patch,
                    place,
                    request_of("poison", POISON),
                    abort_after=abort_after,
                )
            )
        fired += fault.count
    assert fired, "the place is on no path: the test says nothing"


@pytest.mark.parametrize(
    "params",
    [
        pytest.param({"stop": ["\ud800"]}, id="half a character"),
        pytest.param({"top_k": 2**70}, id="more than 64 bits"),
        pytest.param({"extra_args": {"limit": 2**256 - 1}}, id="a number of 256 bits"),
        pytest.param({"extra_args": {"what": object()}}, id="what cannot be encoded"),
        pytest.param({"min_tokens": "two"}, id="what cannot be decoded"),
    ],
)
@pytest.mark.parametrize("length", [1, 41])
def test_what_cannot_be_sent_to_an_engine_is_refused_at_once(
    params: dict[str, Any], length: int
) -> None:
    async def run() -> None:
        async with running_worker(random.Random(1)) as worker:
            request = request_of("poison", [1] * length)
            assert request.sampling_params is not None
            for name, value in params.items():
                setattr(request.sampling_params, name, value)
            await worker.submit(request)
            assert isinstance(worker.ended["poison"], Exception)
            assert not worker.controller.driver.num_entries
            await worker.nothing_left()

    asyncio.run(run())


def test_only_a_dead_engine_ends_more(monkeypatch: pytest.MonkeyPatch) -> None:
    async def dead(request: Any) -> None:
        raise EngineDeadError

    async def run() -> None:
        async with running_worker(random.Random(1)) as worker:
            monkeypatch.setattr(worker.prefill, "add_request_async", dead)
            await worker.submit(request_of("first", [1] * 40))
            await worker.controller.drained()

    with pytest.raises(ExceptionGroup) as ended:
        asyncio.run(run())
    assert ended.group_contains(EngineDeadError)


Act = tuple[str, int, int]
ACTS = st.tuples(
    st.sampled_from(["submit", "submit", "submit", "abort", "pause", "wait"]),
    st.integers(0, 30),
    st.integers(0, 7),
)


@settings(max_examples=40)
@given(
    st.lists(ACTS, max_size=60),
    st.sampled_from([Reshard.ALWAYS, Reshard.AUTO, Reshard.NEVER]),
    st.sampled_from([0.0, 0.1]),
    st.sampled_from([0.0, 0.1]),
    st.booleans(),
)
def test_whatever_happens_to_requests_every_count_comes_back_to_nothing(
    acts: list[Act], reshard: Reshard, rejects: float, raises: float, by_priority: bool
) -> None:
    async def run() -> None:
        async with running_worker(
            random.Random(len(acts)),
            reshard=reshard,
            rejects=rejects,
            raises=raises,
            by_priority=by_priority,
        ) as worker:
            lengths = (1, 2, 16, 17, 70, 150, 400)
            sent, aborted = [], set()
            for number, (act, which, kind) in enumerate(acts):
                if act == "submit":
                    request = request_of(f"r{number}", [which % 5] * lengths[kind % 7])
                    request.priority = which % 3
                    if kind == 7:
                        assert isinstance(request.sampling_params, SamplingParams)
                        request.sampling_params.top_k = 2**70
                    sent.append(request.request_id)
                    await worker.submit(request)
                elif act == "abort":
                    chosen = sent[which : which + kind]
                    aborted.update(chosen)
                    await worker.controller.abort(chosen)
                elif act == "pause":
                    await worker.controller.pin_decode()
                    if kind % 2:
                        await worker.controller.move_all_to_decode()
                    worker.controller.unpin_decode()
                else:
                    await asyncio.sleep(which * 0.0002)
            await worker.nothing_left()
            await asyncio.sleep(0.001)
            assert set(sent) <= worker.ended.keys() | aborted

    asyncio.run(run())
