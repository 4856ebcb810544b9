"""Whole runs of the phase policy on two small model engines, in virtual time.

The model does what the controller does: it asks the driver, reports what happens to it, and sleeps
until something would wake it. An engine works in steps, and a switch waits for the end of the step
under way. Lengths in tokens, times in virtual seconds.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seesaw_core.resharding import events
from seesaw_core.resharding.decode_requests import DecodeRoom
from seesaw_core.resharding.driver import Abort, Driver, Effect, Rules
from seesaw_core.resharding.ledger import EntryState, Ledger
from seesaw_core.resharding.policy import (
    Admit,
    InPlace,
    Phase,
    PhasePolicy,
    Reshard,
    Switch,
    Wait,
)

EPSILON_S = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """How fast the two engines are, and how much they take."""

    prefill_tokens_per_s: float = 8000.0
    in_place_tokens_per_s: float = 2000.0
    decode_step_s: float = 0.03
    transition_s: float = 1.0
    chunk_tokens: int = 512
    slots: int = 8
    pool: int = 8
    num_blocks: int = 256

    @property
    def longest_step_s(self) -> float:
        slowest = min(self.prefill_tokens_per_s, self.in_place_tokens_per_s)
        return self.decode_step_s + self.chunk_tokens / slowest


@dataclass(slots=True, kw_only=True, eq=False)
class Request:
    """One request as it goes. ``aborts_s`` is when its client gives up."""

    name: str
    tokens: int
    outputs: int
    arrives_s: float = 0.0
    aborts_s: float = inf
    computed: int = 0
    produced: int = 0
    is_over: bool = False


@dataclass(slots=True, kw_only=True)
class Stretch:
    """How long something has held without a break, and the longest that it ever did."""

    since_s: float | None = None
    longest_s: float = 0.0

    def note(self, holds: bool, now_s: float) -> None:
        if not holds:
            self.since_s = None
            return
        self.since_s = now_s if self.since_s is None else self.since_s
        self.longest_s = max(self.longest_s, now_s - self.since_s)


@dataclass(slots=True, kw_only=True)
class Report:
    """What a run looked like."""

    transitions_s: list[float] = field(default_factory=list)
    ended_s: float = 0.0
    busy_decode_phases_s: list[float] = field(default_factory=list)
    standstill: Stretch = field(default_factory=Stretch)
    overdue: Stretch = field(default_factory=Stretch)
    waves: list[int] = field(default_factory=list)
    in_place: int = 0

    @property
    def share_in_transition(self) -> float:
        return sum(self.transitions_s) / self.ended_s


class Run:
    """Folds a driver over one list of requests."""

    def __init__(self, policy: PhasePolicy, machine: Machine, requests: list[Request]) -> None:
        self.machine, self.requests = machine, requests
        self.ledger = Ledger(num_blocks=machine.num_blocks, block_size=16)
        room = DecodeRoom.of(num_requests=machine.slots, step_tokens=machine.chunk_tokens)
        self.driver = Driver(Rules(policy=policy, decode_room=room), self.ledger)
        self.report = Report()
        self.now_s = 0.0
        self.coming = sorted(requests, key=lambda r: r.arrives_s)
        self.waiting: dict[str, Request] = {}
        self.prefilling: dict[str, Request] = {}
        self.decoding: dict[str, Request] = {}
        self.step: tuple[float, Callable[[], bool]] | None = None
        self.did_something, self.idle_phases = True, 0
        for to in (Phase.PREFILL, Phase.DECODE):  # as the controller does before it serves
            self._observe(events.TransitionBegan(to=to))
            self._observe(events.TransitionEnded(to=to, standstill_s=machine.transition_s))

    def to_end(self) -> Report:
        """Run until nothing is left to do."""
        idle_rounds = 0
        while not self._is_done():
            before_s = self.now_s
            self._externals()
            self._check()
            self._carry_out()
            idle_rounds = 0 if self.now_s > before_s else idle_rounds + 1
            assert idle_rounds < 200, "the policy spins without time going on"
        assert all(r.is_over for r in self.requests)
        assert self.ledger.free_tokens == self.ledger.capacity_tokens
        self.report.ended_s = self.now_s
        return self.report

    def _observe(self, event: events.Event) -> tuple[Effect, ...]:
        return self.driver.observe(event, self.now_s)

    def _is_done(self) -> bool:
        nobody = not (self.coming or self.driver.num_entries)
        return nobody and self.driver.phase is Phase.DECODE and self.step is None

    def _check(self) -> None:
        """What must hold at every decision."""
        view, totals = self.driver.view(self.now_s), self.ledger.totals()
        assert totals.free + totals.reserved + totals.stored + totals.loading == totals.capacity
        assert (view.num_prefilling, view.num_decoding) == (
            len(self.prefilling), len(self.decoding)
        )  # fmt: skip
        decoding = view.phase is Phase.DECODE
        self.report.standstill.note(bool(not decoding and self.decoding), self.now_s)
        fits = bool(view.waiting) and self.ledger.fits(view.waiting[0].num_tokens)
        self.report.overdue.note(decoding and (fits or bool(self.prefilling)), self.now_s)

    def _carry_out(self) -> None:
        phase = self.driver.phase
        match self.driver.next_step(self.now_s):
            case Wait(at_most_s=at_most_s):
                self._wait(at_most_s)
            case Switch(to=to):
                assert to is not phase
                self._switch(to)
            case Admit(prompts=names):
                assert phase is Phase.PREFILL
                assert names
                self.report.waves[-1] += len(names)
                for name in names:
                    self._observe(events.Admitted(key=name))
                    self.prefilling[name] = self.waiting.pop(name)
            case InPlace(prompts=names):
                assert phase is Phase.DECODE
                assert names
                self.report.in_place += len(names)
                for name in names:
                    request = self.decoding[name] = self.waiting.pop(name)
                    self._observe(events.SentInPlace(request_id=name, num_tokens=request.tokens))

    def _wait(self, at_most_s: float | None) -> None:
        """Sleep until something would wake the controller."""
        until_s = inf if at_most_s is None else self.now_s + at_most_s
        woken = False
        while not woken and self.now_s < until_s and not self._is_done():
            self.step = self.step or self._next_engine_step()
            step_ends_s = self.step[0] if self.step else inf
            next_s = min(until_s, step_ends_s, self._next_external_s())
            assert next_s < inf, f"everybody sleeps for ever: {self.driver.view(self.now_s)}"
            self.now_s = max(self.now_s, next_s)
            if self.now_s >= step_ends_s:
                woken = self._end_engine_step()
            woken |= self._externals()
            self._check()

    def _switch(self, to: Phase) -> None:
        if self.step is None:  # an engine begins its next step without asking anybody
            self.step = self._next_engine_step()
        age_s = self.driver.phase_age_s(self.now_s)
        if to is Phase.PREFILL:
            self.report.waves.append(0)
            if self.decoding:
                self.report.busy_decode_phases_s.append(age_s)
        self._observe(events.TransitionBegan(to=to))
        if self.step is not None:
            self.now_s = max(self.now_s, self.step[0])
            self._end_engine_step()
        # One phase may find nothing to do, if its prompts were aborted during the transition.
        self.idle_phases = 0 if self.did_something else self.idle_phases + 1
        assert self.idle_phases < 2, "a switch there and back with nothing done"
        self.did_something = False
        self._check()
        self.now_s += self.machine.transition_s
        self.report.transitions_s.append(self.machine.transition_s)
        self._observe(events.TransitionEnded(to=to, standstill_s=self.machine.transition_s))
        self.report.standstill.since_s = self.report.overdue.since_s = None

    # ---- the world

    def _next_external_s(self) -> float:
        arrivals = (r.arrives_s for r in self.coming)
        aborts = (r.aborts_s for r in self.requests if not r.is_over and r not in self.coming)
        return min((*arrivals, *aborts), default=inf)

    def _externals(self) -> bool:
        woken = False
        while self.coming and self.coming[0].arrives_s <= self.now_s:
            request = self.coming.pop(0)
            name = request.name
            self.waiting[name] = request
            self._observe(events.Arrived(request_id=name, key=name, num_tokens=request.tokens))
            woken = True
        for request in self.requests:
            if (
                not request.is_over
                and request not in self.coming
                and (request.aborts_s <= self.now_s)
            ):
                self._abort(request)
                self.did_something = woken = True
        return woken

    def _abort(self, request: Request) -> None:
        request.is_over = True
        for effect in self._observe(events.Aborted(request_id=request.name)):
            assert isinstance(effect, Abort)
            assert effect.name == request.name
        self.waiting.pop(request.name, None)
        self.prefilling.pop(request.name, None)
        if self.decoding.pop(request.name, None):
            self._observe(events.Released(request_id=request.name))

    # ---- the engines

    def _next_engine_step(self) -> tuple[float, Callable[[], bool]] | None:
        if self.driver.phase is Phase.PREFILL:
            return self._prefill_step() if self.prefilling else None
        return self._decode_step() if self.decoding else None

    def _end_engine_step(self) -> bool:
        assert self.step is not None
        _, end = self.step
        self.step, self.did_something = None, True
        return end()

    def _prefill_step(self) -> tuple[float, Callable[[], bool]]:
        request = next(iter(self.prefilling.values()))
        chunk = min(self.machine.chunk_tokens, request.tokens - request.computed)
        seconds = chunk / self.machine.prefill_tokens_per_s

        def end() -> bool:
            if request.is_over:
                return False
            request.computed += chunk
            if request.computed < request.tokens:
                return False
            name = request.name
            self.decoding[name] = self.prefilling.pop(name)
            self._observe(events.PrefillEnded(key=name))
            self._observe(events.Stored(key=name))
            self._observe(events.SentToLoad(request_id=name, key=name))
            return True

        return self.now_s + seconds, end

    def _decode_step(self) -> tuple[float, Callable[[], bool]]:
        running = list(self.decoding.values())[: self.machine.pool]
        for request in running:
            if request.name in self.ledger:
                assert self.ledger.entry(request.name).state is EntryState.STORED
                self._observe(events.Loading(request_id=request.name))
                self._observe(events.Released(request_id=request.name))
        behind = next((r for r in running if r.computed < r.tokens), None)
        chunk = min(self.machine.chunk_tokens, behind.tokens - behind.computed) if behind else 0
        generating = [r for r in running if r.computed == r.tokens]
        seconds = chunk / self.machine.in_place_tokens_per_s
        seconds += self.machine.decode_step_s if generating or not chunk else 0.0

        def end() -> bool:
            if behind:
                behind.computed += chunk
                if behind.computed == behind.tokens:
                    generating.append(behind)
            for request in generating:
                if request.is_over:
                    continue
                request.produced += 1
                self._observe(events.Begun(request_id=request.name))
                if request.produced >= request.outputs:
                    request.is_over = True
                    ended = events.Ended(request_id=request.name, ending=events.Ending.FINISHED)
                    self._observe(ended)
                    del self.decoding[request.name]
            return bool(generating)

        return self.now_s + seconds, end


def batch(count: int, *, tokens: int = 500, outputs: int = 60) -> list[Request]:
    """Offline work: everything is there from the start."""
    return [Request(name=f"r{i}", tokens=tokens, outputs=outputs) for i in range(count)]


def stream(count: int, *, gap_s: float, tokens: int, outputs: int) -> list[Request]:
    """Online work: one request every ``gap_s``."""
    return [
        replace(request, arrives_s=i * gap_s)
        for i, request in enumerate(batch(count, tokens=tokens, outputs=outputs))
    ]


ALWAYS = PhasePolicy(reshard=Reshard.ALWAYS)
AUTO = PhasePolicy(reshard=Reshard.AUTO)
NEVER = PhasePolicy(reshard=Reshard.NEVER)

POLICIES = st.builds(
    PhasePolicy,
    reshard=st.sampled_from(Reshard),
    flush_timeout_s=st.sampled_from([0.001, 0.3, 2.0, 10.0]),
    low_watermark=st.sampled_from([0.0, 0.2, 0.9]),
    dwell_transitions=st.sampled_from([0.0, 1.0, 3.0]),
    min_gain=st.sampled_from([1.0, 1.5]),
)
MACHINES = st.builds(
    Machine,
    prefill_tokens_per_s=st.sampled_from([500.0, 8000.0]),
    in_place_tokens_per_s=st.sampled_from([500.0, 2000.0]),
    transition_s=st.sampled_from([0.0, 0.1, 1.0, 7.0]),
    slots=st.integers(1, 6),
    pool=st.integers(1, 6),
    num_blocks=st.integers(64, 160),
)
REQUESTS = st.lists(
    st.builds(
        lambda tokens, outputs, arrives_s, patience_s: Request(
            name="", tokens=tokens, outputs=outputs, arrives_s=arrives_s,
            aborts_s=arrives_s + patience_s,
        ),
        st.one_of(st.integers(1, 64 * 16), st.integers(900, 64 * 16)),
        st.integers(1, 60),
        st.one_of(st.just(0.0), st.floats(0.0, 30.0)),
        st.one_of(st.just(inf), st.floats(0.0, 8.0)),
    ),
    min_size=1,
    max_size=14,
)  # fmt: skip


@settings(max_examples=300)
@given(POLICIES, MACHINES, REQUESTS)
def test_every_request_finishes_and_nobody_waits_without_bound(
    policy: PhasePolicy, machine: Machine, requests: list[Request]
) -> None:
    """Capacity, idle switches, endless sleeps and spins are checked all the way by the model."""
    requests = [replace(r, name=f"r{i}") for i, r in enumerate(requests)]
    report = Run(policy, machine, requests).to_end()

    dwell_s = policy.dwell_transitions * machine.transition_s
    flush_s = max(policy.flush_timeout_s, dwell_s)
    assert report.standstill.longest_s <= flush_s + machine.longest_step_s + EPSILON_S
    assert all(age_s >= dwell_s - EPSILON_S for age_s in report.busy_decode_phases_s)
    if policy.reshard is Reshard.ALWAYS:
        assert report.overdue.longest_s <= flush_s + machine.longest_step_s + EPSILON_S
        assert report.in_place == 0
    if policy.reshard is Reshard.NEVER:
        assert report.transitions_s == []
        assert report.in_place <= len(requests)


@pytest.mark.parametrize("dwell", [1.0, 3.0, 8.0])
@pytest.mark.parametrize("flush_timeout_s", [0.01, 2.0, 10.0])
def test_transitions_take_no_more_than_dwell_allows_under_load(
    dwell: float, flush_timeout_s: float
) -> None:
    policy = replace(ALWAYS, dwell_transitions=dwell, flush_timeout_s=flush_timeout_s)
    report = Run(policy, Machine(), stream(100, gap_s=0.3, tokens=400, outputs=500)).to_end()
    # The last decode phase may run out of work, so let one cycle go uncounted.
    assert len(report.transitions_s) > 4
    counted_s = sum(report.transitions_s[:-2])
    assert counted_s / report.ended_s <= 2 / (2 + dwell)


def test_a_batch_takes_as_few_waves_as_the_buffer_allows() -> None:
    machine = Machine(num_blocks=1024, pool=8, slots=64)  # 32 prompts of 500 tokens
    policy = replace(ALWAYS, flush_timeout_s=60.0, low_watermark=0.0)
    report = Run(policy, machine, batch(128)).to_end()
    assert report.waves == [32, 32, 32, 32]


def test_a_backlog_older_than_the_flush_timeout_does_not_bring_tiny_waves() -> None:
    """Offline, every prompt soon has waited longer than any timeout."""
    machine = Machine(num_blocks=1024, pool=2, slots=64, transition_s=0.2)
    policy = replace(ALWAYS, flush_timeout_s=10.0)
    report = Run(policy, machine, batch(128)).to_end()
    assert min(report.busy_decode_phases_s) >= 10.0 - EPSILON_S
    assert report.share_in_transition < 0.05


def test_without_resharding_the_engines_never_change() -> None:
    report = Run(NEVER, Machine(), batch(40)).to_end()
    assert report.transitions_s == []
    assert report.in_place == 40


def test_always_resharding_takes_every_prompt_through_the_buffer() -> None:
    report = Run(ALWAYS, Machine(transition_s=20.0), batch(40)).to_end()
    assert report.in_place == 0
    assert sum(report.waves) == 40


@pytest.mark.parametrize(
    ("machine", "lengths"),
    [
        pytest.param(Machine(transition_s=30.0), (500, 60), id="transitions are dear"),
        pytest.param(
            Machine(prefill_tokens_per_s=2000.0, in_place_tokens_per_s=8000.0),
            (500, 60),
            id="prefill is slower",
        ),
        pytest.param(Machine(), (20, 60), id="prompts are short"),
    ],
)
def test_auto_prefills_in_place_where_resharding_does_not_pay(
    machine: Machine, lengths: tuple[int, int]
) -> None:
    tokens, outputs = lengths
    report = Run(AUTO, machine, batch(60, tokens=tokens, outputs=outputs)).to_end()
    assert report.in_place >= 60 - (report.waves[0] if report.waves else 0)
    assert len(report.waves) <= 1  # one wave to learn what prefill costs


CHEAP = Machine(in_place_tokens_per_s=500.0, transition_s=0.1, num_blocks=512)


@pytest.mark.parametrize(
    ("machine", "requests"),
    [
        pytest.param(CHEAP, batch(120), id="a batch that is there at once"),
        pytest.param(CHEAP, stream(120, gap_s=0.1, tokens=500, outputs=60), id="a steady stream"),
        pytest.param(
            replace(CHEAP, num_blocks=128, slots=64, pool=2),
            batch(120),
            id="a buffer that fills before the decode engine does",
        ),
    ],
)
def test_auto_reshards_where_prefill_is_faster_and_transitions_are_cheap(
    machine: Machine, requests: list[Request]
) -> None:
    report = Run(AUTO, machine, requests).to_end()
    assert sum(report.waves) > 0.8 * len(requests)


def test_auto_is_not_slower_than_both_fixed_choices_by_more_than_a_tenth() -> None:
    for machine in (Machine(), Machine(transition_s=5.0), Machine(in_place_tokens_per_s=500.0)):
        auto, always, never = (
            Run(policy, machine, batch(100)).to_end().ended_s for policy in (AUTO, ALWAYS, NEVER)
        )
        assert auto <= 1.1 * max(always, never)
