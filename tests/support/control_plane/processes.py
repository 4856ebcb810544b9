"""Processes of a test, and waiting for what they do."""

import asyncio
import subprocess
import time
from collections.abc import Callable
from typing import Any


def end(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM, then SIGKILL."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def until(
    condition: Callable[[], Any], timeout_s: float, told: Callable[[], str], every_s: float = 0.1
) -> None:
    """Wait until a condition holds; ``told`` says what was there if it never did."""
    deadline = time.monotonic() + timeout_s
    while not await condition():
        assert time.monotonic() < deadline, told()
        await asyncio.sleep(every_s)
