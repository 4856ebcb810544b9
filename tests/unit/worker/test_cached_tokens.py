"""What is counted as cached of a prompt whose KV comes through the buffer."""

import asyncio
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from vllm import SamplingParams
from vllm.v1.request import Request

from seesaw_worker.modes.resharding.kv.schedules import LoadSchedule
from seesaw_worker.modes.resharding.kv.transfer import BufferTicket
from support.fake_worker.cores import request_of, running_worker

PROMPT = list(range(101))  # 100 tokens through the buffer: seven blocks of 16


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Any]:
    path = tmp_path / "decode.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        yield SimpleNamespace(block_size=16, socket_path=path)


@pytest.mark.parametrize(
    ("in_prefill", "in_decode", "prefix_caching", "cached"),
    [
        pytest.param(0, 0, True, 0, id="a fresh prompt"),
        pytest.param(48, 0, True, 48, id="the prefill engine had a prefix"),
        pytest.param(0, 32, True, 32, id="the decode engine had one"),
        pytest.param(48, 32, True, 48, id="both had one"),
        pytest.param(32, 48, True, 48, id="both had one, the decode engine more of it"),
        pytest.param(96, 0, False, 0, id="an equal prompt beside it, but no prefix caching"),
    ],
)
def test_only_what_nobody_had_to_compute_is_cached(
    in_prefill: int, in_decode: int, prefix_caching: bool, cached: int, settings: Any
) -> None:
    schedule = LoadSchedule(settings, prefix_caching=prefix_caching)
    ticket = BufferTicket(
        key="k", num_tokens=100, blocks=tuple(range(7)), num_cached_tokens=in_prefill
    )
    params = SamplingParams(extra_args={"kv_transfer_params": ticket.to_params()})
    request = Request("r", PROMPT, params, None)
    schedule.new(request)
    external, _ = schedule.match(request, in_decode)
    assert request.prefill_stats is not None
    request.prefill_stats.set(  # as vLLM does, before it allocates
        num_prompt_tokens=101,
        num_local_cached_tokens=in_decode,
        num_external_cached_tokens=external,
    )
    schedule.admit(request, list(range(1, 8)), external)
    stats = request.prefill_stats
    assert (stats.num_cached_tokens, stats.num_computed_tokens) == (cached, 101 - cached)
    assert (stats.num_local_cached_tokens, stats.num_external_cached_tokens) == (cached, 0)
    schedule.close()


def test_of_equal_prompts_that_share_a_wait_one_was_computed() -> None:
    async def run() -> None:
        async with running_worker(random.Random(5)) as worker:
            given: dict[str, int] = {}
            add = worker.decode.add_request_async

            async def look_and_add(request: Any) -> None:
                ticket = BufferTicket.of(request.sampling_params.extra_args["kv_transfer_params"])
                assert ticket is not None
                given[request.request_id] = ticket.num_cached_tokens
                await add(request)

            worker.decode.add_request_async = look_and_add  # type: ignore[method-assign]
            for name in ("first", "second", "third"):
                await worker.submit(request_of(name, PROMPT))
            await worker.nothing_left()
            assert given == {"first": 0, "second": 96, "third": 96}

    asyncio.run(run())
