"""A worker's state, read as the router and the operator read it."""

import aiohttp

from seesaw_core.messages import (
    VERSION,
    BufferState,
    ModeName,
    PathTotals,
    ReshardingState,
    Stage,
    WorkerState,
)
from seesaw_core.reading import read_state
from seesaw_core.resharding.ledger import LedgerTotals
from seesaw_core.resharding.policy import Phase

IDLE = ReshardingState(
    phase=Phase.DECODE,
    phase_age_s=1.5,
    reason="no prompt waits",
    prefill_layout="P2",
    decode_layout="T2",
    reshard="auto",
    num_prefilling=0,
    num_decoding=0,
    transitions=4,
    seconds_by_phase={"decode": 3.0},
    buffer=BufferState(
        block_size=16,
        block_bytes=65536,
        blocks=LedgerTotals(capacity=8, free=8, reserved=0, stored=0, loading=0),
    ),
    paths=PathTotals(),
)
SERVING = WorkerState(
    version=VERSION,
    mode=ModeName.RESHARDING,
    stage=Stage.SERVING,
    detail="",
    num_waiting=0,
    waiting_tokens=0,
    resharding=IDLE,
)
"""The state of an idle re-sharding worker."""


async def state_of(http: aiohttp.ClientSession, url: str) -> WorkerState:
    """Return the state of the worker at ``url``. Raises: MessageError if it cannot be read."""
    async with http.get(f"{url}/seesaw/state") as response:
        response.raise_for_status()
        return read_state(await response.read())


def resharding(state: WorkerState) -> ReshardingState:
    """Return the re-sharding part of a worker's state."""
    assert state.resharding is not None, state
    return state.resharding


def num_inside(state: WorkerState) -> int:
    """Return the number of requests that have not ended."""
    part = resharding(state)
    return state.num_waiting + part.num_prefilling + part.num_decoding


def is_idle(state: WorkerState) -> bool:
    """Return whether no request is left and every block of the buffer is free."""
    buffer = resharding(state).buffer
    assert buffer is not None, state
    return not num_inside(state) and buffer.blocks.free == buffer.blocks.capacity
