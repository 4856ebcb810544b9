"""What workers say is read into types; what does not fit is one error that names the field."""

import dataclasses
import json
from typing import Any

import pytest

from seesaw_core.errors import MessageError
from seesaw_core.event_stream import EventParser, StreamLimits
from seesaw_core.messages import (
    GroupSpan,
    PlanSummary,
    Rejection,
    RequestSpan,
    Stage,
    StaticState,
    TimelineEvent,
    TransitionEvent,
    WorkerState,
)
from seesaw_core.reading import read_event, read_state
from seesaw_core.resharding.policy import Phase
from seesaw_core.writing import as_json
from support.worker_states import SERVING

STATE = dataclasses.replace(
    SERVING,
    plan=PlanSummary(
        prefill="P2",
        decode="T2",
        reason="",
        gain_percent=-3,
        rejected=(Rejection(layout="T8", reason="no"),),
    ),
)


def sent(**changes: Any) -> bytes:
    """The state above as it comes, with fields replaced by their paths (``a__b`` is a.b)."""
    return json.dumps(changed(as_json(STATE), changes)).encode()


def changed(message: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(json.dumps(message))
    for path, value in changes.items():
        *above, last = path.split("__")
        where = data
        for name in above:
            where = where[name]
        if value is ...:
            del where[last]
        else:
            where[last] = value
    return data


def test_every_message_comes_back_as_it_was_sent() -> None:
    assert read_state(sent()) == STATE
    event = TransitionEvent(
        number=1, to=Phase.PREFILL, reason="r", pause_s=0.1, weights_s=0, resume_s=0, total_s=0.1,
        weight_bytes=7,
    )  # fmt: skip
    assert read_event("transition", json.dumps(dataclasses.asdict(event)).encode()) == event
    group = GroupSpan(
        kind="decode", instances=(0, 2), num_iterations=9, num_requests=3, began_s=1.5, ended_s=2.5
    )
    request = RequestSpan(
        number=1, kind="prefill", instances=(2, 0), num_tokens=70, began_s=0.5, ended_s=1.5
    )
    timeline = TimelineEvent(groups=(group,), requests=(request,), num_dropped=2)
    assert read_event("timeline", json.dumps(as_json(timeline)).encode()) == timeline


def test_fields_and_events_of_a_later_version_are_ignored_and_defaults_may_be_missing() -> None:
    data = sent(new=1, resharding__buffer__blocks__new={}, finished=..., plan=...)
    assert read_state(data) == dataclasses.replace(STATE, plan=None)
    assert read_event("round", b"\xff") is None


VERSION_0 = {
    "stage": "serving", "detail": "", "phase": "prefill", "phase_age_s": 1.5, "reason": "r",
    "prefill_layout": "P2", "decode_layout": "T2", "reshard": "auto", "num_waiting": 3,
    "waiting_tokens": 70, "num_prefilling": 1, "num_decoding": 2, "transitions": 4,
    "seconds_by_phase": {"decode": 3.0},
    "buffer": {
        "block_size": 16, "block_bytes": 65536,
        "blocks": {"capacity": 8, "free": 8, "reserved": 0, "stored": 0, "loading": 0},
    },
    "paths": {
        "reshard_requests": 0, "reshard_tokens": 0, "in_place_requests": 0, "in_place_tokens": 0,
    },
    "finished": {"requests": 5, "prompt_tokens": 50, "output_tokens": 60},
    "plan": None,
}  # fmt: skip
"""What a worker of version 0 said, word for word; its readers wanted each field."""


def test_a_worker_of_version_0_is_read_as_one_that_re_shards() -> None:
    state = read_state(json.dumps(VERSION_0).encode())
    assert (state.version, state.mode, state.num_waiting) == (0, "resharding", 3)
    assert state.finished.requests == 5
    assert state.resharding is not None
    assert (state.resharding.phase, state.resharding.num_decoding) == (Phase.PREFILL, 2)
    with pytest.raises(MessageError, match=r"^phase_age_s is missing"):
        read_state(json.dumps(changed(VERSION_0, {"phase_age_s": ...})).encode())


@pytest.mark.parametrize(
    "mode",
    [
        STATE,
        dataclasses.replace(
            STATE, mode="static", resharding=None, static=StaticState(layout="T2"), plan=None
        ),
        dataclasses.replace(STATE, mode="of later", resharding=None),
    ],
    ids=lambda state: state.mode,
)
def test_a_reader_of_version_0_finds_every_field_in_what_is_sent_today(mode: WorkerState) -> None:
    data = json.loads(json.dumps(as_json(mode)))
    for name, value in VERSION_0.items():
        if name not in ("plan", "buffer"):
            assert isinstance(data[name], type(value)), name
    assert {"plan", "buffer"} <= data.keys()
    assert data["phase"] in ("prefill", "decode")
    assert read_state(json.dumps(data).encode()) == mode


def test_a_worker_of_a_later_mode_is_read_by_what_all_modes_say() -> None:
    state = read_state(sent(mode="later", version=7, resharding=None, later={"groups": []}))
    assert (state.mode, state.version, state.resharding) == ("later", 7, None)
    assert state.stage is Stage.SERVING


ODD = [
    ({"version": ...}, "version"),
    ({"mode": None}, "mode"),
    ({"resharding": ...}, "resharding"),
    ({"resharding": []}, "resharding"),
    ({"stage": ...}, "stage"),
    ({"stage": "resting"}, "stage"),
    ({"stage": ["serving"]}, "stage"),
    ({"resharding__phase": "mixed"}, "resharding.phase"),
    ({"resharding__phase": None}, "resharding.phase"),
    ({"resharding__buffer": ...}, "resharding.buffer"),
    ({"resharding__buffer": 3}, "resharding.buffer"),
    ({"resharding__buffer__blocks": []}, "resharding.buffer.blocks"),
    ({"resharding__buffer__blocks__free": ...}, "resharding.buffer.blocks.free"),
    ({"resharding__buffer__blocks__free": "8"}, "resharding.buffer.blocks.free"),
    ({"resharding__buffer__blocks__free": 1.5}, "resharding.buffer.blocks.free"),
    ({"resharding__buffer__block_size": True}, "resharding.buffer.block_size"),
    ({"waiting_tokens": 10**30}, "waiting_tokens"),
    ({"resharding__phase_age_s": False}, "resharding.phase_age_s"),
    ({"resharding__phase_age_s": 10**40}, "resharding.phase_age_s"),
    ({"waiting_tokens": -1}, "waiting_tokens"),
    ({"resharding__seconds_by_phase": {"decode": None}}, "resharding.seconds_by_phase.decode"),
    ({"plan__rejected": {}}, "plan.rejected"),
    ({"plan__rejected": [{"layout": "T8"}]}, "plan.rejected[0].reason"),
    ({"detail": {"a": 1}}, "detail"),
    ({"detail": "\ud800"}, "detail"),
    ({"detail": "x" * 16_385}, "detail"),
    ({"mode": "x" * 65}, "mode"),
    ({"mode": "a\x1b[31m"}, "mode"),
    ({"resharding__decode_layout": "T2\u202e"}, "resharding.decode_layout"),
    ({"resharding__phase_age_s": 2**63 - 1}, "resharding.phase_age_s"),
    (
        {"resharding__seconds_by_phase": dict.fromkeys(map(str, range(257)), 1.0)},
        "resharding.seconds_by_phase",
    ),
    ({"plan__rejected": [{"layout": "T8", "reason": "x"}] * 257}, "plan.rejected"),
]


@pytest.mark.parametrize(("changes", "field"), ODD, ids=[str(changes) for changes, _ in ODD])
def test_what_is_missing_or_of_another_type_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(MessageError) as caught:
        read_state(sent(**changes))
    assert caught.value.field == field
    assert str(caught.value).startswith(field)


def test_a_key_that_a_peer_chose_can_stand_in_a_log() -> None:
    with pytest.raises(MessageError) as error:
        read_state(sent(resharding__seconds_by_phase={"\ud800\n\x1b[2J" + "x" * 9_999: "y"}))
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"\xff", b"[" * 100_000, b"NaN", b"-Infinity", b"9" * 5000, b"null", b"[]", b"3"],
    ids=lambda text: repr(text[:8]),
)
def test_text_that_is_no_message_is_an_error_of_one_kind(text: bytes) -> None:
    with pytest.raises(MessageError):
        read_state(text)


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
