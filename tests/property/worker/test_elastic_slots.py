"""However requests come, grow, are cut and go: no slot is lost, and none is held twice."""

from hypothesis import given
from hypothesis import strategies as st

from seesaw_worker.modes.elastic.slots import Context, SlotTable

ACTIONS = st.lists(
    st.tuples(st.sampled_from(("take", "keep", "release")), st.integers(0, 4), st.integers(0, 9)),
    max_size=60,
)


@given(actions=ACTIONS, block_size=st.sampled_from((1, 4, 8, 32)))
def test_slots_are_held_once_and_come_back(
    actions: list[tuple[str, int, int]], block_size: int
) -> None:
    table = SlotTable(30, block_size)
    held: dict[str, list[int]] = {}
    for action, number, tokens in actions:
        key = str(number)
        if action == "take" and tokens <= table.num_free:
            held[key] = held.get(key, []) + table.take(key, tokens).tolist()
        elif action == "keep" and tokens <= len(held.get(key, ())):
            table.keep(key, tokens)
            held[key] = held.get(key, [])[:tokens]
        elif action == "release":
            table.release(key)
            held.pop(key, None)
        assert set(table) == {key for key, slots in held.items() if slots}
        taken = [slot for slots in held.values() for slot in slots]
        assert len(taken) == len(set(taken)) == 30 - table.num_free
        for key, slots in held.items():
            assert_context(table.of(key), slots)
    for key in list(held):
        table.release(key)
    assert table.num_free == 30
    assert sorted(table.take("all", 30).tolist()) == list(range(30))


def assert_context(context: Context, slots: list[int]) -> None:
    """It has these slots, and is paged only if its blocks say so."""
    assert context.slots.tolist() == slots
    if context.is_paged:
        size = context.block_size
        in_blocks = [block * size + i for block in context.blocks.tolist() for i in range(size)]
        assert slots == in_blocks[: len(slots)]


def test_contexts_are_paged_until_only_the_ends_of_others_are_left() -> None:
    table = SlotTable(32, 8)
    for key, tokens in (("a", 9), ("b", 5), ("a", 3), ("b", 4)):
        table.take(key, tokens)
    assert table.of("a").is_paged
    assert table.of("b").is_paged
    assert table.num_free == 11
    table.take("c", 11)
    assert not table.of("c").is_paged, "three blocks' ends"
    assert table.num_free == 0
    table.keep("c", 0)
    table.take("c", 1)
    assert not table.of("c").is_paged, "no block is empty"
    table.release("a")
    table.take("d", 16)
    assert table.of("d").is_paged
    table.take("b", 1)
    assert table.of("b").is_paged == (table.of("b").slots[-1] % 8 == 1)
