"""The driver of the phase policy: it keeps the books, once, for the worker and the simulator.

    event ──> observe ──> books ──> view ──> policy ──> step ──> carried out ──> events

Whoever runs engines reports each event as it happens and carries out each step, which names the
prompts that it moves; carrying it out is reported as events again. So equal events give equal
steps. The driver knows no clock, no engine and no request beyond its name.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import assert_never

from seesaw_core.errors import IntegrityError
from seesaw_core.messages import WaveEvent
from seesaw_core.policies import Policy
from seesaw_core.rates import ExponentialMean
from seesaw_core.resharding import events
from seesaw_core.resharding.decode_requests import DecodeRoom, InDecode
from seesaw_core.resharding.ledger import Ledger
from seesaw_core.resharding.meters import CostMeter
from seesaw_core.resharding.policy import Costs, Phase, Step, Switch, View, Wait
from seesaw_core.resharding.prefill_requests import InPrefill
from seesaw_core.resharding.waiting import Prompt, WaitingPrompts


@dataclass(frozen=True, slots=True, kw_only=True)
class Abort:
    """Let the engine of a phase drop a request or prompt; it may never have had it."""

    engine: Phase
    name: str


Effect = Abort | WaveEvent
"""What an event brings about at once: an engine to be told, or a wave that is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The rules of a driver. ``costs`` are known in advance; None measures them."""

    policy: Policy[View, Step]
    decode_room: DecodeRoom
    by_priority: bool = False
    costs: Costs | None = None


class Driver:
    """The books of one pair of engines. It begins in the decode phase.

    Requires: events in the order in which they happen, at times that never go back.
    """

    def __init__(self, rules: Rules, ledger: Ledger, *, now_s: float = 0.0) -> None:
        self.ledger = ledger
        self.meter = CostMeter()
        self.waiting = WaitingPrompts(
            block_size=ledger.block_size,
            head_blocks=ledger.capacity_tokens // ledger.block_size,
            by_priority=rules.by_priority,
        )
        self.prefilling = InPrefill(ledger)
        self.decoding = InDecode(ledger, rules.decode_room, self.meter.in_place)
        self.phase = Phase.DECODE
        self.seconds_by_phase = dict.fromkeys(Phase, 0.0)
        self.last_step: Step = Wait(at_most_s=None, reason="no prompt waits")
        self._rules = rules
        self._phase_began_s = now_s
        self._switch_began_s: float | None = None
        self._num_holds = 0

    # ---- what the books say

    @property
    def num_entries(self) -> int:
        """Prompts that wait or are prefilled, and requests in the decode engine."""
        return len(self.waiting) + len(self.prefilling) + len(self.decoding)

    @property
    def is_held(self) -> bool:
        """Whether the decode phase is pinned, and has begun."""
        return self._num_holds > 0 and self.phase is Phase.DECODE and not self.is_switching

    @property
    def is_switching(self) -> bool:
        """Whether a transition is under way."""
        return self._switch_began_s is not None

    @property
    def costs(self) -> Costs:
        return self._rules.costs or self.meter.costs

    def may_wait(self, num_tokens: int) -> bool:
        """Whether the buffer could ever carry a prompt; others go in place at once."""
        return 0 < num_tokens <= self.ledger.capacity_tokens

    def phase_age_s(self, now_s: float) -> float:
        return now_s - self._phase_began_s

    def view(self, now_s: float) -> View:
        """All that the policy may know, as of now."""
        return View(
            phase=self.phase,
            phase_age_s=self.phase_age_s(now_s),
            waiting=self.waiting.head,
            oldest_wait_s=self.waiting.oldest_wait_s(now_s),
            num_prefilling=len(self.prefilling),
            num_decoding=len(self.decoding),
            decode_has_room=self.decoding.has_room,
            free_tokens=self.ledger.free_tokens,
            stored_tokens=self.ledger.stored_tokens,
            capacity_tokens=self.ledger.capacity_tokens,
            block_size=self.ledger.block_size,
            costs=self.costs,
        )

    # ---- what happens, and what is next

    def next_step(self, now_s: float) -> Step:
        """Choose what to do next. Requires: no transition is under way."""
        self.last_step = self._held_step() or self._rules.policy.next_step(self.view(now_s))
        return self.last_step

    def observe(self, event: events.Event, now_s: float) -> tuple[Effect, ...]:
        """Enter an event into the books.

        Raises: IntegrityError or BufferFullError if they cannot follow. Whoever reports an event
        of a request's then reports that the request has failed.
        """
        match event:
            case events.Arrived():
                self._queue(event, now_s)
            case events.Admitted():
                self.prefilling.enter(self._waiting_prompt(event.key))
                self.waiting.remove(event.key)
            case events.PrefillEnded():
                self.prefilling.end(event.key)
            case events.Stored():
                self.meter.wave.add(self.ledger.entry(event.key).num_tokens, now_s)
                self.ledger.store(event.key)
            case events.SentToLoad():
                self.decoding.expect_loading(event.request_id, event.key)
                self.prefilling.hand_on(event.request_id)
            case events.SentInPlace():
                self._leave(event.request_id)
                may_begin = self.phase is Phase.DECODE and not self.is_switching
                measured_from_s = now_s if may_begin else None
                self.decoding.expect_in_place(event.request_id, event.num_tokens, measured_from_s)
            case events.Aborted():
                return self._abort(event.request_id)
            case events.Failed():
                return self._fail(event.request_id)
            case events.Loading() | events.Released() | events.Begun() | events.Ended():
                self._follow_decode(event, now_s)
            case _:
                return self._observe_engines(event, now_s)
        return ()

    def _follow_decode(self, event: events.DecodeEvent, now_s: float) -> None:
        match event:
            case events.Loading():
                self.decoding.load(event.request_id)
            case events.Released():
                self.decoding.release(event.request_id)
            case events.Begun():
                self.decoding.begin(event.request_id, now_s)
            case events.Ended():
                self.decoding.end(event.request_id, event.ending, now_s)
            case _:
                assert_never(event)

    def _observe_engines(self, event: events.EngineEvent, now_s: float) -> tuple[Effect, ...]:
        match event:
            case events.TransitionBegan():
                return self._begin_transition(event.to, now_s)
            case events.TransitionEnded():
                self._end_transition(event, now_s)
            case events.Held():
                self._num_holds += 1
            case events.LetGo():
                self._num_holds = max(0, self._num_holds - 1)
            case events.WarmedUp():
                self.meter.prefill.observe(event.num_tokens, event.prefill_s)
                self.meter.in_place.rate.observe(event.num_tokens, event.in_place_s)
                self.meter.transition_s = ExponentialMean()
            case _:
                assert_never(event)
        return ()

    # ---- requests

    def _queue(self, event: events.Arrived, now_s: float) -> None:
        prompt = Prompt(
            key=event.key,
            identity=event.key if event.identity is None else event.identity,
            num_tokens=event.num_tokens,
            arrived_s=now_s,
        )
        self.waiting.add(prompt, event.request_id, event.priority)

    def _waiting_prompt(self, key: str) -> Prompt:
        prompt = self.waiting.find(key)
        if prompt is None:
            raise IntegrityError(f"prompt {key!r} does not wait")
        return prompt

    def _leave(self, request_id: str) -> Prompt | None:
        """Take a request out that has not come to the decode engine; None if it has."""
        waiting = self.waiting.leave(request_id)
        return self.prefilling.leave(request_id) or waiting

    def _abort(self, request_id: str) -> tuple[Effect, ...]:
        prompt = self._leave(request_id)
        if prompt is None and self.decoding.forget(request_id):
            return (Abort(engine=Phase.DECODE, name=request_id),)
        if prompt is not None and not prompt.readers:
            return (Abort(engine=Phase.PREFILL, name=prompt.key),)
        return ()

    def _fail(self, request_id: str) -> tuple[Effect, ...]:
        """Take a request out of all the books, even if one of them fails as well."""
        was_sent = request_id in self.decoding
        with ExitStack() as books:
            for leave in (self.decoding.give_up, self.prefilling.leave, self.waiting.leave):
                books.callback(leave, request_id)
        return (Abort(engine=Phase.DECODE, name=request_id),) if was_sent else ()

    # ---- phases

    def _held_step(self) -> Switch | Wait | None:
        if not self._num_holds:
            return None
        if self.phase is Phase.PREFILL:
            return Switch(to=Phase.DECODE, reason="held in decode")
        return Wait(at_most_s=None, reason="held in decode")

    def _begin_transition(self, to: Phase, now_s: float) -> tuple[Effect, ...]:
        wave = self.meter.end_wave(now_s) if self.phase is Phase.PREFILL else None
        self._switch_began_s = now_s
        self.meter.in_place.interrupt()
        self.prefilling.begin()
        if to is Phase.PREFILL:  # it may step before the hand-over has returned
            self.meter.wave.began_s = now_s
        return () if wave is None else (wave,)

    def _end_transition(self, event: events.TransitionEnded, now_s: float) -> None:
        assert self._switch_began_s is not None, "a transition ended that never began"
        self.seconds_by_phase[self.phase] += self._switch_began_s - self._phase_began_s
        self.phase, self._phase_began_s, self._switch_began_s = event.to, now_s, None
        if event.to is Phase.PREFILL:
            self.meter.wave.began_s = now_s
        else:
            self.prefilling.stop()
        self.meter.transition_s.observe(event.standstill_s)
