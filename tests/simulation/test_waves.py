"""Several replicas behind one router, in virtual time: the wait for a prefill window.

Each replica folds the real driver, the router the real wave policy. Time goes in small steps.
Lengths in tokens, times in virtual seconds.
"""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import mean

from seesaw_core.resharding import events
from seesaw_core.resharding.decode_requests import DecodeRoom
from seesaw_core.resharding.driver import Driver, Rules
from seesaw_core.resharding.ledger import Ledger
from seesaw_core.resharding.policy import Admit, Costs, InPlace, Phase, PhasePolicy, Reshard, Switch
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
BLOCK_TOKENS = 20
SLOTS = 64


RULES = Rules(
    policy=PhasePolicy(reshard=Reshard.ALWAYS),
    decode_room=DecodeRoom.of(num_requests=SLOTS, step_tokens=PROMPT_TOKENS),
    costs=Costs(transition_s=TRANSITION_S),
)


def driver() -> Driver:
    ledger = Ledger(num_blocks=CAPACITY_TOKENS // BLOCK_TOKENS, block_size=BLOCK_TOKENS)
    return Driver(RULES, ledger)


@dataclass(slots=True, kw_only=True)
class Engine:
    """One replica: what the controller would do, with engines that are a rate each."""

    name: str
    driver: Driver = field(default_factory=driver)
    switches_to: Phase | None = None
    busy_until_s: float = 0.0
    windows: PrefillWindows = field(default_factory=PrefillWindows)
    enqueued_s: dict[str, float] = field(default_factory=dict)  # at the router, of those that wait
    prefilling: dict[str, float] = field(default_factory=dict)  # tokens left
    stored: list[str] = field(default_factory=list)
    decoding: dict[str, float] = field(default_factory=dict)  # seconds left
    waits: list[float] = field(default_factory=list)
    names: Iterator[str] = field(default_factory=lambda: map(str, itertools.count()))

    def replica(self, now_s: float) -> Replica:
        driver = self.driver
        phase = self.switches_to or driver.phase
        return Replica(
            name=self.name,
            num_running=driver.num_entries,
            accepts=Intake.OPEN if phase is Phase.PREFILL else Intake.WAVES,
            room_tokens=max(0, driver.ledger.free_tokens - driver.waiting.num_tokens),
            capacity_tokens=CAPACITY_TOKENS,
            window_age_s=self.windows.age_s(now_s),
            cycle_s=self.windows.cycle_s,
        )

    def take(self, enqueued_s: float, now_s: float) -> None:
        name = next(self.names)
        self.enqueued_s[name] = enqueued_s
        arrived = events.Arrived(request_id=name, key=name, num_tokens=PROMPT_TOKENS)
        self.driver.observe(arrived, now_s)

    def advance(self, now_s: float) -> None:
        if now_s < self.busy_until_s:
            return
        if self.switches_to is not None:
            self._own(self.switches_to, now_s)
        if self.driver.phase is Phase.PREFILL:
            self._prefill(now_s)
        else:
            self._decode(now_s)
        while self._carry_out(now_s):
            pass

    def _own(self, to: Phase, now_s: float) -> None:
        self.driver.observe(events.TransitionEnded(to=to, standstill_s=TRANSITION_S), now_s)
        self.switches_to = None

    def _prefill(self, now_s: float) -> None:
        left = PREFILL_TOKENS_PER_S * STEP_S
        for name, tokens in list(self.prefilling.items()):
            done = min(left, tokens)
            left -= done
            self.prefilling[name] -= done
            if done == tokens:
                del self.prefilling[name]
                self.stored.append(name)
                self.driver.observe(events.PrefillEnded(key=name), now_s)
                self.driver.observe(events.Stored(key=name), now_s)
                self.driver.observe(events.SentToLoad(request_id=name, key=name), now_s)

    def _decode(self, now_s: float) -> None:
        while self.stored and len(self.decoding) < SLOTS:
            name = self.stored.pop(0)
            self.decoding[name] = OUTPUTS_S
            self.driver.observe(events.Loading(request_id=name), now_s)
            self.driver.observe(events.Released(request_id=name), now_s)
        for name, seconds in list(self.decoding.items()):
            self.decoding[name] = seconds - STEP_S
            if seconds <= STEP_S:
                del self.decoding[name]
                ended = events.Ended(request_id=name, ending=events.Ending.FINISHED)
                self.driver.observe(ended, now_s)

    def _carry_out(self, now_s: float) -> bool:
        match self.driver.next_step(now_s):
            case Admit(prompts=names):
                for name in names:
                    self.driver.observe(events.Admitted(key=name), now_s)
                    self.prefilling[name] = float(PROMPT_TOKENS)
                    self.waits.append(now_s - self.enqueued_s.pop(name))
                return True
            case Switch(to=to):
                self.switches_to, self.busy_until_s = to, now_s + TRANSITION_S
                self.driver.observe(events.TransitionBegan(to=to), now_s)
                if to is Phase.PREFILL:
                    self.windows.opened(now_s)
                return False
            case InPlace():
                raise AssertionError("nothing goes in place here")
        return False


def mean_wait_s(num_replicas: int, *, stagger: bool) -> float:
    """How long prompts wait for a window, on average, after a while."""
    rng = random.Random(num_replicas)
    engines = {f"r{i}": Engine(name=f"r{i}") for i in range(num_replicas)}
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
            for enqueued_s in queue[:count]:
                engines[step.replica].take(enqueued_s, now_s)
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
