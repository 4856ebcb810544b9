"""A worker's event stream: its state comes again and again, whatever else there is to send."""

import json
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from seesaw_core.messages import StaticState, WaveEvent
from seesaw_worker.modes.mode import ModeState
from seesaw_worker.server import telemetry
from seesaw_worker.server.telemetry import Telemetry

WAVES = [WaveEvent(number=number, prompts=1, tokens=1, seconds=1.0) for number in range(1, 6)]


class Quiet:
    """A mode that reports nothing of its own."""

    name = "static"

    def register(self, registry: CollectorRegistry) -> None: ...
    def refresh(self) -> None: ...

    def state(self) -> ModeState:
        return ModeState(part=StaticState(layout="T1"))


async def received(number: int) -> list[tuple[str, int | None]]:
    """Return the first events of a worker that has published five: kinds, and numbers of waves."""
    mode: Any = Quiet()
    worker = Telemetry(mode, CollectorRegistry())
    events, found = worker.events(), []
    async for event in events:
        kind, data = event.decode().strip().split("\n")
        found.append((kind.removeprefix("event: "), json.loads(data[6:]).get("number")))
        if len(found) == 1:
            for wave in WAVES:
                worker.publish(wave)
        if len(found) == number:
            break
    return found


async def test_events_come_in_their_order_after_the_first_state() -> None:
    assert await received(6) == [("state", None), *(("wave", n) for n in range(1, 6))]


async def test_a_state_that_is_due_comes_before_events_that_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(telemetry, "_STATE_EVERY_S", 0.0)
    assert await received(3) == [("state", None)] * 3
