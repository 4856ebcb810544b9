"""However requests come, grow, are cut and go: no slot is lost, and none is held twice."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from seesaw_worker.modes.elastic.slots import SlotTable

ACTIONS = st.lists(
    st.tuples(st.sampled_from(("take", "keep", "release")), st.integers(0, 4), st.integers(0, 9)),
    max_size=60,
)


@given(actions=ACTIONS)
def test_slots_are_held_once_and_come_back(actions: list[tuple[str, int, int]]) -> None:
    table = SlotTable(30, torch.device("cpu"))
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
        taken = [slot for slots in held.values() for slot in slots]
        assert len(taken) == len(set(taken)) == 30 - table.num_free
        for key, slots in held.items():
            assert table.of(key).tolist() == slots
    for key in list(held):
        table.release(key)
    assert table.num_free == 30
    assert sorted(table.take("all", 30).tolist()) == list(range(30))
