"""The queue before the prefill engine: who goes next, and who shares whose way."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from seesaw_worker.modes.resharding.waiting import WaitingPrompts


@dataclass
class Asked:
    """As much of an engine-core request as the queue looks at."""

    request_id: str
    prompt_token_ids: list[int] = field(default_factory=lambda: [1, 2])
    priority: int = 0
    cache_salt: str | None = None


def queue(*, by_priority: bool) -> WaitingPrompts:
    waiting = WaitingPrompts(by_priority=by_priority)
    for at_s, (name, priority, length) in enumerate(
        [("a", 5, 10), ("b", 0, 20), ("c", 5, 30), ("d", -1, 40)]
    ):
        request = Asked(name, [at_s] * length, priority)
        waiting.add(name, request, length, float(at_s))
    return waiting


def test_prompts_go_in_the_order_in_which_they_came() -> None:
    waiting = queue(by_priority=False)
    assert [p.key for p in waiting.first(3)] == ["a", "b", "c"]
    assert waiting.tokens == (10, 20, 30, 40)


def test_the_most_urgent_prompts_go_first_where_engines_schedule_by_priority() -> None:
    waiting = queue(by_priority=True)
    assert [p.key for p in waiting] == ["d", "b", "a", "c"]
    assert waiting.tokens == (40, 20, 10, 30)
    assert waiting.oldest_wait_s(10.0) == 10.0, "the oldest is not the first here"


def test_an_urgent_request_hurries_the_equal_prompt_that_it_joins() -> None:
    waiting = queue(by_priority=True)
    assert waiting.add("new", Asked("late", [2] * 30, -7), 30, 9.0).key == "c"
    assert [p.key for p in waiting] == ["c", "d", "b", "a"]
    assert set(waiting.first(1)[0].readers) == {"c", "late"}


def test_a_reader_that_gave_up_hurries_nobody() -> None:
    waiting = queue(by_priority=True)
    assert waiting.add("new", Asked("late", [2] * 30, -7), 30, 9.0).key == "c"
    assert waiting.leave("late") is not None
    assert [p.key for p in waiting] == ["d", "b", "a", "c"]


def test_only_the_very_same_prompt_is_joined() -> None:
    waiting = queue(by_priority=False)
    assert waiting.add("e", Asked("x", [3] * 30), 30, 9.0).key == "e"
    assert waiting.add("f", Asked("y", [2] * 30, cache_salt="mine"), 30, 9.0).key == "f"
    assert waiting.add("g", Asked("z", [2] * 30), 30, 9.0).key == "c"


def test_a_removed_prompt_waits_no_more() -> None:
    waiting = queue(by_priority=False)
    removed = waiting.remove("a")
    assert removed is not None
    assert waiting.remove("a") is None
    assert waiting.oldest_wait_s(10.0) == 9.0
    for key in "bcd":
        waiting.remove(key)
    assert (len(waiting), waiting.tokens, waiting.oldest_wait_s(10.0)) == (0, (), 0.0)


class Token(int):
    """A token that counts what it is compared with."""

    num_compared = 0
    __hash__ = int.__hash__

    def __eq__(self, other: object) -> bool:
        Token.num_compared += 1
        return int(self) == other


@pytest.mark.parametrize("by_priority", [False, True])
def test_what_a_request_costs_does_not_depend_on_how_many_wait(by_priority: bool) -> None:
    def costs(num_waiting: int) -> tuple[int, int, int]:
        waiting = WaitingPrompts(by_priority=by_priority)
        for number in range(num_waiting):
            prompt: list[int] = [*[Token(1)] * 50, Token(number)]
            waiting.add(f"k{number}", Asked(f"r{number}", prompt, number % 3), 50, float(number))
        Token.num_compared = 0
        late = Asked("late", [*[Token(1)] * 50, Token(5)], -1)
        joining = num_calls(lambda: waiting.add("late", late, 50, 1e6))
        leaving = num_calls(lambda: waiting.leave("late"))
        looking = num_calls(lambda: (waiting.tokens, waiting.oldest_wait_s(1e6), waiting.first(2)))
        assert Token.num_compared == 0
        return joining, leaving, looking

    assert costs(10) == costs(1000)


def num_calls(work: Callable[[], Any]) -> int:
    """How many functions, those of C included, are called."""
    count = 0

    def seen(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(seen)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count
