"""A worker's state, as tests ask for it: read as router and operator read it."""

import aiohttp

from seesaw_core.messages import ReshardingState, WorkerState
from seesaw_core.reading import read_state


async def state_of(http: aiohttp.ClientSession, url: str) -> WorkerState:
    """The state of the worker at ``url``. Raises: MessageError if it cannot be read."""
    async with http.get(f"{url}/seesaw/state") as response:
        response.raise_for_status()
        return read_state(await response.read())


def resharding(state: WorkerState) -> ReshardingState:
    """The part of a worker that re-shards."""
    assert state.resharding is not None, state
    return state.resharding


def num_inside(state: WorkerState) -> int:
    """The number of requests that have not ended."""
    part = resharding(state)
    return state.num_waiting + part.num_prefilling + part.num_decoding


def is_idle(state: WorkerState) -> bool:
    """Reports whether no request is left and every block of the buffer is free."""
    buffer = resharding(state).buffer
    assert buffer is not None, state
    return not num_inside(state) and buffer.blocks.free == buffer.blocks.capacity
