"""What workers say is read into types; what does not fit is one error that names the field."""

import dataclasses
import json
from typing import Any

import pytest

from seesaw_core.errors import MessageError
from seesaw_core.event_stream import EventParser, StreamLimits
from seesaw_core.messages import (
    BufferState,
    PathTotals,
    PlanSummary,
    Rejection,
    Stage,
    TransitionEvent,
    WorkerState,
)
from seesaw_core.reading import parse, read_event, read_message
from seesaw_core.resharding.ledger import LedgerTotals
from seesaw_core.resharding.policy import Phase

STATE = WorkerState(
    stage=Stage.SERVING,
    detail="",
    phase=Phase.DECODE,
    phase_age_s=1.5,
    reason="no prompt waits",
    prefill_layout="P2",
    decode_layout="T2",
    reshard="auto",
    num_waiting=0,
    waiting_tokens=0,
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
    plan=PlanSummary(
        prefill="P2",
        decode="T2",
        reason="",
        gain_percent=-3,
        rejected=(Rejection(layout="T8", reason="no"),),
    ),
)


def as_json(**changes: Any) -> dict[str, Any]:
    """The state above as it comes, with fields replaced by their paths (``a__b`` is a.b)."""
    data = json.loads(json.dumps(dataclasses.asdict(STATE)))
    for path, value in changes.items():
        *above, last = path.split("__")
        where = data
        for name in above:
            where = where[name]
        if value is ...:
            del where[last]
        else:
            where[last] = value
    return dict(data)


def test_every_message_comes_back_as_it_was_sent() -> None:
    assert read_message(WorkerState, as_json()) == STATE
    event = TransitionEvent(
        number=1, to=Phase.PREFILL, reason="r", pause_s=0.1, weights_s=0, resume_s=0, total_s=0.1,
        weight_bytes=7,
    )  # fmt: skip
    assert read_event("transition", json.dumps(dataclasses.asdict(event)).encode()) == event


def test_fields_and_events_of_a_later_version_are_ignored_and_defaults_may_be_missing() -> None:
    data = as_json(new=1, buffer__blocks__new={}, finished=..., plan=...)
    assert read_message(WorkerState, data) == dataclasses.replace(STATE, plan=None)
    assert read_event("round", b"\xff") is None


ODD = [
    ({"stage": ...}, "stage"),
    ({"stage": "resting"}, "stage"),
    ({"stage": ["serving"]}, "stage"),
    ({"phase": "mixed"}, "phase"),
    ({"phase": None}, "phase"),
    ({"buffer": ...}, "buffer"),
    ({"buffer": 3}, "buffer"),
    ({"buffer__blocks": []}, "buffer.blocks"),
    ({"buffer__blocks__free": ...}, "buffer.blocks.free"),
    ({"buffer__blocks__free": "8"}, "buffer.blocks.free"),
    ({"buffer__blocks__free": 1.5}, "buffer.blocks.free"),
    ({"buffer__block_size": True}, "buffer.block_size"),
    ({"waiting_tokens": 10**30}, "waiting_tokens"),
    ({"phase_age_s": False}, "phase_age_s"),
    ({"phase_age_s": 10**40}, "phase_age_s"),
    ({"phase_age_s": float("nan")}, "phase_age_s"),
    ({"waiting_tokens": -1}, "waiting_tokens"),
    ({"seconds_by_phase": {"decode": None}}, "seconds_by_phase.decode"),
    ({"plan__rejected": {}}, "plan.rejected"),
    ({"plan__rejected": [{"layout": "T8"}]}, "plan.rejected[0].reason"),
    ({"detail": {"a": 1}}, "detail"),
]


@pytest.mark.parametrize(("changes", "field"), ODD, ids=[str(changes) for changes, _ in ODD])
def test_what_is_missing_or_of_another_type_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(MessageError) as caught:
        read_message(WorkerState, as_json(**changes))
    assert caught.value.field == field
    assert str(caught.value).startswith(field)


def test_a_key_that_a_peer_chose_can_stand_in_a_log() -> None:
    with pytest.raises(MessageError) as error:
        read_message(WorkerState, as_json(seconds_by_phase={"\ud800\n\x1b[2J" + "x" * 9_999: "y"}))
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"\xff", b"[" * 100_000, b"NaN", b"-Infinity", b"9" * 5000, b"null", b"[]", b"3"],
    ids=lambda text: repr(text[:8]),
)
def test_text_that_is_no_message_is_an_error_of_one_kind(text: bytes) -> None:
    with pytest.raises(MessageError):
        read_message(WorkerState, parse(text))


def test_a_stream_is_split_into_events_however_it_is_cut() -> None:
    whole = (
        b": hello\r\nevent: state\r\ndata: {}\r\n\r\nevent:wave\ndata:1\ndata: 2\n\n\ndata: x\n\n"
    )
    for size in (1, 2, 7, len(whole)):
        parser = EventParser()
        found = []
        for at in range(0, len(whole), size):
            found += list(parser.feed(whole[at : at + size], 0.0))
        assert found == [("state", b"{}"), ("wave", b"1\n2"), ("", b"x")]


@pytest.mark.parametrize(
    "chunk",
    [
        b"x" * 101,
        b"data: " + b"x" * 99 + b"\n",
        b"data: " + b"x" * 30 + b"\n",
        b"data: x\n\n",
        b"\n" * 10,
    ],
    ids=["an endless line", "a long line", "many lines of one event", "many events", "no events"],
)
def test_a_stream_that_says_too_much_is_ended_before_it_fills_memory(chunk: bytes) -> None:
    parser = EventParser(StreamLimits(event_bytes=90, events_per_s=20, lines_per_s=100))
    with pytest.raises(MessageError):
        _ = [list(parser.feed(chunk, 0.0)) for _ in range(30)]


def test_many_events_are_fine_over_many_seconds() -> None:
    parser = EventParser(StreamLimits(events_per_s=2, bytes_per_s=30))
    for second in range(10):
        assert len(list(parser.feed(b"data: x\n\ndata: y\n\n", float(second)))) == 2
