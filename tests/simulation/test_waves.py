"""Several replicas behind one router, in virtual time: the wait for a prefill window.

Each replica folds the real phase policy, the router the real wave policy. Time goes in small
steps. Lengths in tokens, times in virtual seconds.
"""

import random
from dataclasses import dataclass, field
from statistics import mean

from seesaw_core.resharding.policy import (
    Admit,
    Costs,
    InPlace,
    Phase,
    PhasePolicy,
    Reshard,
    Switch,
    View,
)
from seesaw_core.routing.waves import Hold, Intake, Prompt, Queue, Release, Replica, WavePolicy
from seesaw_core.routing.windows import PrefillWindows

STEP_S = 0.02
RUN_S = 240.0
WARM_UP_S = 40.0
PER_REPLICA_PER_S = 3.0
PROMPT_TOKENS = 500
OUTPUTS_S = 3.0
PREFILL_TOKENS_PER_S = 10_000.0
TRANSITION_S = 0.5
CAPACITY_TOKENS = 40_000
SLOTS = 64


@dataclass(slots=True, kw_only=True)
class Engine:
    """One replica: what the controller would do, with engines that are a rate each."""

    name: str
    policy: PhasePolicy
    phase: Phase = Phase.DECODE
    phase_began_s: float = 0.0
    busy_until_s: float = 0.0
    windows: PrefillWindows = field(default_factory=PrefillWindows)
    waiting: list[float] = field(default_factory=list)  # when each came to the router
    prefilling: list[float] = field(default_factory=list)  # tokens left
    stored: int = 0
    decoding: list[float] = field(default_factory=list)  # seconds left
    waits: list[float] = field(default_factory=list)

    @property
    def free_tokens(self) -> int:
        return CAPACITY_TOKENS - PROMPT_TOKENS * (self.stored + len(self.prefilling))

    def replica(self, now_s: float) -> Replica:
        return Replica(
            name=self.name,
            num_running=len(self.waiting) + len(self.prefilling) + self.stored + len(self.decoding),
            accepts=Intake.OPEN if self.phase is Phase.PREFILL else Intake.WAVES,
            room_tokens=max(0, self.free_tokens - PROMPT_TOKENS * len(self.waiting)),
            capacity_tokens=CAPACITY_TOKENS,
            window_age_s=self.windows.age_s(now_s),
            cycle_s=self.windows.cycle_s,
        )

    def advance(self, now_s: float) -> None:
        if now_s < self.busy_until_s:
            return
        if self.phase is Phase.PREFILL:
            self._prefill()
        else:
            self._decode()
        while self._carry_out(now_s):
            pass

    def _prefill(self) -> None:
        left = PREFILL_TOKENS_PER_S * STEP_S
        while self.prefilling and left > 0:
            done = min(left, self.prefilling[0])
            left -= done
            self.prefilling[0] -= done
            if self.prefilling[0] <= 0:
                self.prefilling.pop(0)
                self.stored += 1

    def _decode(self) -> None:
        while self.stored and len(self.decoding) < SLOTS:
            self.stored -= 1
            self.decoding.append(OUTPUTS_S)
        self.decoding = [s - STEP_S for s in self.decoding if s > STEP_S]

    def _carry_out(self, now_s: float) -> bool:
        view = View(
            phase=self.phase,
            phase_age_s=now_s - self.phase_began_s,
            waiting_tokens=(PROMPT_TOKENS,) * len(self.waiting),
            oldest_wait_s=now_s - self.waiting[0] if self.waiting else 0.0,
            num_prefilling=len(self.prefilling),
            num_decoding=self.stored + len(self.decoding),
            decode_has_room=len(self.decoding) < SLOTS,
            free_tokens=self.free_tokens,
            stored_tokens=PROMPT_TOKENS * self.stored,
            capacity_tokens=CAPACITY_TOKENS,
            block_size=20,
            costs=Costs(transition_s=TRANSITION_S),
        )
        match self.policy.next_step(view):
            case Admit(count=count):
                self.waits += [now_s - enqueued_s for enqueued_s in self.waiting[:count]]
                del self.waiting[:count]
                self.prefilling += [float(PROMPT_TOKENS)] * count
                return True
            case Switch(to=to):
                self.phase, self.busy_until_s = to, now_s + TRANSITION_S
                self.phase_began_s = self.busy_until_s
                if to is Phase.PREFILL:
                    self.windows.opened(now_s)
                return False
            case InPlace():
                raise AssertionError("nothing goes in place here")
        return False


def mean_wait_s(num_replicas: int, *, stagger: bool) -> float:
    """How long prompts wait for a window, on average, after a while."""
    rng = random.Random(num_replicas)
    phases = PhasePolicy(reshard=Reshard.ALWAYS)
    engines = {f"r{i}": Engine(name=f"r{i}", policy=phases) for i in range(num_replicas)}
    policy = WavePolicy(stagger=stagger)
    queue: list[float] = []
    due_s = now_s = 0.0
    skipped: dict[str, int] = {}
    while now_s < RUN_S:
        while due_s <= now_s:
            queue.append(due_s)
            due_s += rng.expovariate(PER_REPLICA_PER_S * num_replicas)
        for engine in engines.values():
            engine.advance(now_s)
        while True:
            oldest_wait_s = now_s - queue[0] if queue else 0.0
            prompts = tuple(Prompt(id=i, tokens=PROMPT_TOKENS) for i in range(len(queue)))
            step = policy.next_step(
                Queue(prompts=prompts, oldest_wait_s=oldest_wait_s),
                [e.replica(now_s) for e in engines.values()],
            )
            if isinstance(step, Hold):
                break
            assert isinstance(step, Release)
            count = len(step.requests)
            assert step.requests == tuple(range(count))
            engines[step.replica].waiting += queue[:count]
            del queue[:count]
        if now_s < WARM_UP_S:
            skipped = {name: len(e.waits) for name, e in engines.items()}
        now_s += STEP_S
    waits = [w for name, e in engines.items() for w in e.waits[skipped[name] :]]
    assert len(waits) > 0.9 * PER_REPLICA_PER_S * num_replicas * (RUN_S - WARM_UP_S)
    return mean(waits)


def test_the_wait_for_a_window_falls_with_the_number_of_replicas_that_take_turns() -> None:
    alone, two, four = (mean_wait_s(n, stagger=True) for n in (1, 2, 4))
    print(f"\nwait for a window: R=1 {alone:.2f} s, R=2 {two:.2f} s, R=4 {four:.2f} s")
    assert 0.3 < two / alone < 0.6
    assert 0.1 < four / alone < 0.3


def test_the_wait_for_a_window_does_not_fall_without_taking_turns() -> None:
    alone, four = (mean_wait_s(n, stagger=False) for n in (1, 4))
    print(f"\nwait for a window without turns: R=1 {alone:.2f} s, R=4 {four:.2f} s")
    assert four / alone > 0.7
