"""Waiting for what others do, and no longer than that takes."""

import asyncio
from collections.abc import Awaitable, Callable


async def until(condition: Callable[[], bool | Awaitable[bool]], at_most_s: float = 10.0) -> None:
    """Raises: TimeoutError if it does not come to hold."""
    async with asyncio.timeout(at_most_s):
        while True:
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return
            await asyncio.sleep(0.02)
