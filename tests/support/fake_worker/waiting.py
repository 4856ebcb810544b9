"""Waits for a condition, for as short as possible."""

import asyncio
from collections.abc import Awaitable, Callable


async def until(condition: Callable[[], bool | Awaitable[bool]], at_most_s: float = 10.0) -> None:
    """Wait until a condition holds. Raises: TimeoutError if it does not in time."""
    async with asyncio.timeout(at_most_s):
        while True:
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return
            await asyncio.sleep(0.02)
