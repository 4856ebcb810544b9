"""The driver's books: events in, a view and named steps out, with no engine and no clock."""

import pytest

from seesaw_core.errors import IntegrityError
from seesaw_core.resharding import events
from seesaw_core.resharding.decode_requests import DecodeRoom
from seesaw_core.resharding.driver import Abort, Driver, Rules
from seesaw_core.resharding.ledger import Ledger
from seesaw_core.resharding.policy import Admit, Phase, PhasePolicy, Reshard, Switch, Wait


def driver() -> Driver:
    rules = Rules(
        policy=PhasePolicy(reshard=Reshard.ALWAYS),
        decode_room=DecodeRoom.of(num_requests=8, step_tokens=100),
    )
    return Driver(rules, Ledger(num_blocks=10, block_size=16))


def arrive(books: Driver, *names: str, num_tokens: int = 60, now_s: float = 0.0) -> None:
    for name in names:
        books.observe(events.Arrived(request_id=name, key=name, num_tokens=num_tokens), now_s)


def switch(books: Driver, to: Phase, now_s: float) -> None:
    books.observe(events.TransitionBegan(to=to), now_s)
    books.observe(events.TransitionEnded(to=to, standstill_s=1.0), now_s + 1.0)


def test_one_prompt_goes_all_the_way_and_each_step_names_it() -> None:
    books = driver()
    arrive(books, "a", "b", "c")
    assert books.next_step(0.0) == Switch(
        to=Phase.PREFILL, reason="nothing is decoding and prompts wait"
    )
    switch(books, Phase.PREFILL, 0.0)
    assert books.next_step(1.0) == Admit(prompts=("a", "b"), reason="the buffer has room")
    for key in "ab":
        books.observe(events.Admitted(key=key), 1.0)
    books.observe(events.PrefillEnded(key="a"), 2.0)
    books.observe(events.Stored(key="a"), 2.0)
    books.observe(events.SentToLoad(request_id="a", key="a"), 2.0)
    view = books.view(2.0)
    assert (view.num_prefilling, view.num_decoding) == (1, 1)
    assert (view.stored_tokens, view.free_tokens) == (64, 32)
    switch(books, Phase.DECODE, 3.0)
    books.observe(events.Loading(request_id="a"), 4.0)
    books.observe(events.Released(request_id="a"), 4.0)
    books.observe(events.Ended(request_id="a", ending=events.Ending.FINISHED), 5.0)
    assert books.view(5.0).free_tokens == 96
    assert books.num_entries == 2


def test_decode_has_room_until_two_steps_of_prompts_wait_in_it() -> None:
    books = driver()
    books.observe(events.SentInPlace(request_id="a", num_tokens=199), 0.0)
    assert books.view(0.0).decode_has_room
    books.observe(events.SentInPlace(request_id="b", num_tokens=1), 0.0)
    assert not books.view(0.0).decode_has_room
    books.observe(events.Begun(request_id="a"), 1.0)
    assert books.view(1.0).decode_has_room


def test_who_holds_the_devices_in_decode_gets_them_and_keeps_them() -> None:
    books = driver()
    arrive(books, "a")
    switch(books, Phase.PREFILL, 0.0)
    books.observe(events.Held(), 1.0)
    assert books.next_step(1.0) == Switch(to=Phase.DECODE, reason="held in decode")
    switch(books, Phase.DECODE, 1.0)
    assert books.is_held
    assert isinstance(books.next_step(2.0), Wait)
    books.observe(events.LetGo(), 2.0)
    assert isinstance(books.next_step(2.0), Switch)


def test_an_abort_names_the_engine_that_may_have_the_request() -> None:
    books = driver()
    arrive(books, "a", "b")
    switch(books, Phase.PREFILL, 0.0)
    books.observe(events.Admitted(key="a"), 1.0)
    books.observe(events.SentInPlace(request_id="b", num_tokens=9), 1.0)
    told = [books.observe(events.Aborted(request_id=name), 2.0) for name in ("a", "b", "unknown")]
    assert told == [
        (Abort(engine=Phase.PREFILL, name="a"),),
        (Abort(engine=Phase.DECODE, name="b"),),
        (),
    ]
    assert books.view(2.0).free_tokens == 96, "the prefill engine may still write its blocks"
    switch(books, Phase.DECODE, 2.0)
    assert books.view(3.0).free_tokens == 160


def test_a_prompt_that_does_not_wait_cannot_be_admitted() -> None:
    with pytest.raises(IntegrityError, match="prompt 'a' does not wait"):
        driver().observe(events.Admitted(key="a"), 0.0)
