"""The spans that an elastic worker publishes: of groups by iteration, of requests by instance."""

from collections.abc import Mapping
from typing import Any

from seesaw_core.elastic.placement import Placement, retain
from seesaw_core.elastic.pool import TokenPool
from seesaw_core.elastic.view import Decode, Prefill
from seesaw_worker.modes.elastic.timeline import MOST_SPANS, Timeline


class Worker:
    """A pool of two instances, a timeline, and a time that passes only when told to."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.pool = TokenPool([50, 50])
        self.timeline = Timeline(lambda: self.now_s)

    def prefill(self, placements: Mapping[str, Placement], instances: tuple[int, ...]) -> None:
        step = Prefill(instances=instances, placements=placements)
        for key, placement in placements.items():
            self.pool.retain(key, placement)
        self.timeline.begin(step, self.pool)
        self.now_s += 2
        self.timeline.end(step, tuple(placements), self.pool)

    def decode(self, masters: Mapping[str, int], instances: tuple[int, ...]) -> None:
        step = Decode(instances=instances, masters=masters)
        for key, master in masters.items():
            self.pool.append(key, master)
        self.timeline.begin(step, self.pool)
        self.now_s += 0.25
        self.timeline.end(step, tuple(masters), self.pool)

    def finish(self, key: str) -> None:
        self.pool.release(key)
        self.timeline.forget(key)

    def spans(self, kind: str) -> list[dict[str, Any]]:
        spans: list[dict[str, Any]] = self.timeline.recent(self.pool)[kind]["last"]
        return spans


def test_a_request_shrinks_after_its_prefill_and_grows_as_a_second_master_joins() -> None:
    worker = Worker()
    (placement,) = retain([10], {1: 50})
    worker.prefill({"a": placement}, (1, 0))
    worker.decode({"a": 1}, (1,))
    worker.decode({"a": 0}, (0, 1))
    worker.finish("a")
    spans = [
        (s["number"], s["kind"], s["instances"], s["began_s"], s["ended_s"])
        for s in worker.spans("requests")
    ]
    assert spans == [
        (1, "prefill", (1, 0), 100.0, 102.0),
        (1, "decode", (1,), 102.0, 102.25),
        (1, "decode", (0, 1), 102.25, 102.5),
    ]


def test_decode_iterations_in_a_row_are_one_span_of_their_group() -> None:
    worker = Worker()
    (placement,) = retain([10], {0: 50})
    worker.prefill({"a": placement}, (0,))
    for _ in range(3):
        worker.decode({"a": 0}, (0,))
    worker.now_s += 5
    worker.decode({"a": 0}, (0,))
    spans = [(s["kind"], s["num_iterations"], s["began_s"]) for s in worker.spans("groups")]
    assert spans == [("prefill", 1, 100.0), ("decode", 3, 102.0), ("decode", 1, 107.75)]


def test_a_failed_prefill_ends_its_span_and_is_no_span_of_a_group() -> None:
    worker = Worker()
    step = Prefill(instances=(0,), placements={"a": retain([10], {0: 50})[0]})
    worker.pool.retain("a", step.placements["a"])
    worker.timeline.begin(step, worker.pool)
    worker.pool.release("a")
    worker.timeline.fail(step, ("a",))
    assert worker.spans("groups") == []
    assert [s["kind"] for s in worker.spans("requests")] == ["prefill"]


def test_a_preempted_request_holds_nothing_and_keeps_its_number() -> None:
    worker = Worker()
    (placement,) = retain([10], {0: 50})
    worker.prefill({"a": placement}, (0,))
    worker.pool.release("a")
    worker.spans("requests")
    worker.now_s += 10
    worker.prefill({"a": placement}, (0,))
    worker.finish("a")
    spans = [(s["number"], s["ended_s"] - s["began_s"]) for s in worker.spans("requests")]
    assert spans == [(1, 2.0), (1, 0.0), (1, 2.0), (1, 0.0)]


def test_the_spans_of_many_requests_are_bounded_and_counted() -> None:
    worker = Worker()
    (placement,) = retain([10], {0: 50})
    for number in range(100):
        worker.prefill({f"r{number}": placement}, (0,))
        worker.finish(f"r{number}")
    recent = worker.timeline.recent(worker.pool)
    assert recent["requests"]["total"] == 200
    assert len(recent["requests"]["last"]) == MOST_SPANS
