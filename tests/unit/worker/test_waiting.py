"""The queue before the prefill engine: who goes next, and who shares whose way."""

from dataclasses import dataclass, field

from seesaw_worker.engine.waiting import WaitingPrompts


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
