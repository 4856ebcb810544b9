"""Two small model engines in virtual time, under the driver of the phase policy.

The model does what the controller does: it asks the driver for steps, reports events to it, and
sleeps until an event would wake it. An engine works in steps, and a switch waits for the end of the
running step. Units: tokens, virtual seconds.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import inf

from seesaw_core.resharding import events
from seesaw_core.resharding.decode_requests import DecodeRoom
from seesaw_core.resharding.driver import Abort, Driver, Effect, Rules
from seesaw_core.resharding.ledger import EntryState, Ledger
from seesaw_core.resharding.policy import (
    Admit,
    InPlace,
    Phase,
    PhasePolicy,
    Switch,
    Wait,
)

EPSILON_S = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The speed and the capacity of the two engines."""

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
    """One request and its progress. ``aborts_s`` is when its client gives up."""

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
    """How long a condition has held without a break, and the longest time that it ever did."""

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
    """The results of a run."""

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
        """Run until no work is left."""
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
        """Check the invariants of every decision."""
        view, totals = self.driver.view(self.now_s), self.ledger.totals()
        assert totals.free + totals.reserved + totals.stored + totals.loading == totals.capacity
        assert (view.num_prefilling, view.num_decoding) == (
            len(self.prefilling), len(self.decoding)
        )  # fmt: skip
        decoding = view.phase is Phase.DECODE
        self.report.standstill.note(bool(not decoding and self.decoding), self.now_s)
        fits = bool(view.waiting) and view.waiting[0].num_tokens <= self.ledger.free_tokens
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
        """Sleep until an event would wake the controller."""
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
        if self.step is None:  # an engine begins its next step by itself
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
    """Return offline work, which is complete at the start."""
    return [Request(name=f"r{i}", tokens=tokens, outputs=outputs) for i in range(count)]


def stream(count: int, *, gap_s: float, tokens: int, outputs: int) -> list[Request]:
    """Return online work: one request every ``gap_s``."""
    return [
        replace(request, arrives_s=i * gap_s)
        for i, request in enumerate(batch(count, tokens=tokens, outputs=outputs))
    ]
