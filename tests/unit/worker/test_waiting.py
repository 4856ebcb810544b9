"""The queue before the prefill engine: who goes next, and who shares whose way."""

import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from seesaw_core.resharding.waiting import Prompt, WaitingPrompts
from seesaw_worker.modes.resharding import requests


@dataclass
class Asked:
    """As much of an engine-core request as the queue looks at."""

    request_id: str
    prompt_token_ids: list[int] = field(default_factory=lambda: [1, 2])
    priority: int = 0
    cache_salt: str | None = None


def add(waiting: WaitingPrompts, key: str, request: Any, now_s: float) -> Prompt:
    """Queue a request as the worker does."""
    prompt = Prompt(
        key=key,
        identity=requests.prompt_identity(request),
        num_tokens=len(request.prompt_token_ids),
        arrived_s=now_s,
    )
    return waiting.add(prompt, request.request_id, request.priority)


def sizes(waiting: WaitingPrompts) -> list[int]:
    return [candidate.num_tokens for candidate in waiting.head]


def queue(*, by_priority: bool, head_blocks: int = 100) -> WaitingPrompts:
    waiting = WaitingPrompts(block_size=1, head_blocks=head_blocks, by_priority=by_priority)
    for at_s, (name, priority, length) in enumerate(
        [("a", 5, 10), ("b", 0, 20), ("c", 5, 30), ("d", -1, 40)]
    ):
        request = Asked(name, [at_s] * length, priority)
        add(waiting, name, request, float(at_s))
    return waiting


def test_prompts_go_in_the_order_in_which_they_came() -> None:
    waiting = queue(by_priority=False)
    assert [p.key for p in waiting] == ["a", "b", "c", "d"]
    assert sizes(waiting) == [10, 20, 30, 40]


def test_the_most_urgent_prompts_go_first_where_engines_schedule_by_priority() -> None:
    waiting = queue(by_priority=True)
    assert [p.key for p in waiting] == ["d", "b", "a", "c"]
    assert sizes(waiting) == [40, 20, 10, 30]
    assert waiting.oldest_wait_s(10.0) == 10.0, "the oldest is not the first here"


def test_an_urgent_request_hurries_the_equal_prompt_that_it_joins() -> None:
    waiting = queue(by_priority=True)
    assert add(waiting, "new", Asked("late", [2] * 30, -7), 9.0).key == "c"
    assert [p.key for p in waiting] == ["c", "d", "b", "a"]
    assert set(next(iter(waiting)).readers) == {"c", "late"}


def test_a_reader_that_gave_up_hurries_nobody() -> None:
    waiting = queue(by_priority=True)
    assert add(waiting, "new", Asked("late", [2] * 30, -7), 9.0).key == "c"
    assert waiting.leave("late") is not None
    assert [p.key for p in waiting] == ["d", "b", "a", "c"]


def test_only_the_very_same_prompt_is_joined() -> None:
    waiting = queue(by_priority=False)
    assert add(waiting, "e", Asked("x", [3] * 30), 9.0).key == "e"
    assert add(waiting, "f", Asked("y", [2] * 30, cache_salt="mine"), 9.0).key == "f"
    assert add(waiting, "g", Asked("z", [2] * 30), 9.0).key == "c"


def test_a_removed_prompt_waits_no_more() -> None:
    waiting = queue(by_priority=False)
    removed = waiting.remove("a")
    assert removed is not None
    assert waiting.remove("a") is None
    assert waiting.oldest_wait_s(10.0) == 9.0
    for key in "bcd":
        waiting.remove(key)
    assert (len(waiting), waiting.num_tokens, waiting.head) == (0, 0, ())
    assert waiting.oldest_wait_s(10.0) == 0.0


@pytest.mark.parametrize("by_priority", [False, True])
def test_the_head_is_as_much_as_an_empty_buffer_takes_and_one_prompt_more(
    by_priority: bool,
) -> None:
    for head_blocks in (5, 30, 60, 100):
        waiting = queue(by_priority=by_priority, head_blocks=head_blocks)
        add(waiting, "last", Asked("last", [9], 9), 9.0)
        add(waiting, "first", Asked("first", [9] * 7, -9), 9.0)
        for key in ("", "last", "b", "a", "c", "d", "first"):
            waiting.remove(key)
            every = [prompt.num_tokens for prompt in waiting]
            fitting = sum(sum(every[: n + 1]) <= head_blocks for n in range(len(every)))
            assert sizes(waiting) == every[: fitting + 1]
            assert waiting.num_tokens == sum(every)


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
        waiting = WaitingPrompts(block_size=16, head_blocks=20, by_priority=by_priority)
        for number in range(num_waiting):
            prompt: list[int] = [*[Token(1)] * 50, Token(number)]
            add(waiting, f"k{number}", Asked(f"r{number}", prompt, number % 3), float(number))
        Token.num_compared = 0
        late = Asked("late", [*[Token(1)] * 50, Token(5)], -1)
        joining = num_calls(lambda: add(waiting, "late", late, 1e6))
        leaving = num_calls(lambda: waiting.leave("late"))
        looking = num_calls(lambda: (waiting.head, waiting.oldest_wait_s(1e6)))
        assert Token.num_compared == 0
        return joining, leaving, looking

    assert costs(10) == costs(1000)


def num_calls(work: Callable[[], Any]) -> int:
    """Return how many functions, those of C included, are called.

    Garbage is not collected meanwhile, which would call the finalizers of other tests' objects.
    """
    count = 0

    def profile(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    gc.collect()
    gc.disable()
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count
