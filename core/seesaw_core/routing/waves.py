"""The router's wave policy: which prompts go to which replica, and when.

Replicas prefill in windows. Prompts that arrive while no window is open gather until the next one
opens, so that a window is worth its two transitions. The replicas take turns, so that windows are
spread evenly over time and the next one is never far off. Light traffic does not wait: a replica
that has little to do gets prompts at once.

Replicas that accept prompts at any time have no windows. Among those with a pool of elastic
instances a prompt goes where it starts soonest by its length (:mod:`seesaw_core.routing.pools`).

The policy takes a view and returns one step with its reason. It holds no state and reads no clock.
It knows what replicas accept, but not how they serve.

Source: Su et al., Seesaw (arXiv 2503.06433), section 4.2, for waves within a replica.
Deviation: taking turns among replicas is ours; the paper's system has one.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from math import inf

from seesaw_core.errors import InputError
from seesaw_core.routing.pools import Pool

_INSTANT_S = 1e-6  # a shorter wait is over: sums of floats may never quite get there
# Share of a cycle's fair part after which the next replica's turn comes. Less than 1, or a cycle
# could only grow; from 0.5 to 1 throughput and waits hardly change (``test_wave_figures.py``).
_PACE = 0.8
# Share of the mean number of running requests below which a replica is hungry. Replicas that take
# turns still have half of the mean when theirs comes. Any share above 0 divides a burst; without
# one it takes a quarter longer (``test_wave_figures.py``).
_HUNGRY = 0.25
_LOW_BUFFER = 0.5  # share of free room at which a buffer is low: a window then fills half of it


class Intake(StrEnum):
    """When a replica accepts prompts."""

    ALWAYS = "always"  # at any time, one by one, as plain vLLM does
    OPEN = "open"  # now, because its prefill window is open
    WAVES = "waves"  # in waves, each of which makes it open a window


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """A snapshot of one replica: what it accepts, and how much. Units: tokens, seconds.

    num_running: the requests that were sent to it and have not ended.
    room_tokens: the prompt tokens that it has room for, less those that are on their way.
    capacity_tokens: its room when it is empty.
    window_age_s: the time since its last prefill window began; None before the first one.
    cycle_s: the mean time from one window to the next.
    pool: the pool of an elastic replica; None for others.

    Room and windows have no meaning for a replica that always accepts prompts.
    """

    name: str
    num_running: int
    accepts: Intake
    room_tokens: int = 0
    capacity_tokens: int = 0
    window_age_s: float | None = None
    cycle_s: float | None = None
    pool: Pool | None = None

    def may_hold(self, prompt_tokens: int) -> bool:
        """Whether the replica is large enough for a prompt once it is empty, as far as it says."""
        return self.pool is None or self.pool.may_hold(prompt_tokens)

    @property
    def buffer_is_low(self) -> bool:
        return self.room_tokens >= _LOW_BUFFER * self.capacity_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A request that waits for a replica. A :class:`Release` refers to it by ``id``."""

    id: int
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """Prompts that gather, oldest first. Units: seconds.

    ``num_behind`` counts further prompts that are not listed, since no replica has room for them.
    """

    prompts: tuple[Prompt, ...]
    oldest_wait_s: float
    num_behind: int = 0

    def __len__(self) -> int:
        return len(self.prompts) + self.num_behind


class ReleaseReason(StrEnum):
    """Why prompts are released: a label of metrics, and a sentence for people."""

    LEAST_BUSY = "least_busy"
    LITTLE_TO_DO = "little_to_do"
    ALWAYS_ACCEPTS = "always_accepts"
    STARTS_SOONEST = "starts_soonest"
    WINDOW_OPEN = "window_open"
    ITS_TURN = "its_turn"
    WAITED_TOO_LONG = "waited_too_long"

    @property
    def sentence(self) -> str:
        return _SENTENCES[self]


_SENTENCES = {
    ReleaseReason.LEAST_BUSY: "the least busy replica",
    ReleaseReason.LITTLE_TO_DO: "a replica has little to do",
    ReleaseReason.ALWAYS_ACCEPTS: "the least busy replica takes prompts at any time",
    ReleaseReason.STARTS_SOONEST: "the prompt starts soonest on this elastic replica",
    ReleaseReason.WINDOW_OPEN: "a window is open",
    ReleaseReason.ITS_TURN: "its turn has come",
    ReleaseReason.WAITED_TOO_LONG: "the oldest waited too long",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A step: send these requests to a replica, in this order.

    ``left_out``: whether the pools of other replicas were too small for them.
    """

    replica: str
    requests: tuple[int, ...]
    reason: ReleaseReason
    left_out: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A step: wait until something changes, or for ``at_most_s`` seconds."""

    at_most_s: float | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WavePolicy:
    """Gathers prompts into waves, and lets the replicas take turns.

    max_wait_s: the longest time that a prompt gathers. The default is that of a worker's flush
        timeout.
    light_requests: a replica with fewer running requests gets prompts at once. From 1 to 8 the
        time to the first token hardly changes (``test_wave_figures.py``).
    stagger: whether replicas take turns; if not, each prompt goes to the least busy one at once.

    Raises: InputError if a figure is out of range.
    """

    max_wait_s: float = 10.0
    light_requests: int = 4
    stagger: bool = True

    def __post_init__(self) -> None:
        if not self.max_wait_s > 0:
            raise InputError(f"--max-wait-s must be above 0, got {self.max_wait_s}")
        if self.light_requests < 1:
            raise InputError(f"--light-requests must be at least 1, got {self.light_requests}")

    def next_step(self, queue: Queue, replicas: Iterable[Replica]) -> Release | Hold:
        """Choose the next step for the prompts that wait.

        Among equal replicas the first is chosen, so that the caller decides by their order.
        """
        serving = sorted(replicas, key=lambda r: (r.num_running, -r.room_tokens))
        if not queue.prompts:
            return Hold(at_most_s=None, reason="no prompt waits")
        if not serving:
            return Hold(at_most_s=None, reason="no replica serves")
        able = _large_enough(serving, queue.prompts[0].tokens)
        step = self._at_once(queue, able)
        if step is not None:
            return replace(step, left_out=len(able) < len(serving))
        most = _most_in_a_wave(queue, serving)
        serving = [r for r in serving if r.accepts is not Intake.ALWAYS]
        for replica in serving:
            fitting = min(most, _num_fitting(queue.prompts, replica.room_tokens))
            if replica.accepts is Intake.OPEN and fitting:
                return _release(queue, fitting, replica, ReleaseReason.WINDOW_OPEN)
        return self._next_wave(queue, serving, most)

    def _at_once(self, queue: Queue, able: list[Replica]) -> Release | None:
        """Send the oldest prompt if the least busy replica needs no wave. Requires: sorted."""
        least_busy = able[0]
        if not self.stagger:
            return _release(queue, 1, least_busy, ReleaseReason.LEAST_BUSY)
        if least_busy.pool is not None:
            soonest = _soonest(queue.prompts[0], able)
            return _release(queue, 1, soonest, ReleaseReason.STARTS_SOONEST)
        if least_busy.num_running < self.light_requests:
            return _release(queue, 1, least_busy, ReleaseReason.LITTLE_TO_DO)
        if least_busy.accepts is Intake.ALWAYS:
            return _release(queue, 1, least_busy, ReleaseReason.ALWAYS_ACCEPTS)
        return None

    def _next_wave(self, queue: Queue, serving: list[Replica], most: int) -> Release | Hold:
        """Open the next window, on the replica whose last window is oldest, or hold."""
        flush_in = self.max_wait_s - queue.oldest_wait_s
        low = [r for r in serving if r.buffer_is_low]
        if flush_in <= _INSTANT_S:
            turn, reason = _longest_without(low or serving), ReleaseReason.WAITED_TOO_LONG
        elif not low:
            return Hold(at_most_s=flush_in, reason="all buffers still feed their replicas")
        else:
            turn, reason = _longest_without(low), ReleaseReason.ITS_TURN
            turn_in = self._turn_in_s(serving)
            if turn_in > _INSTANT_S:
                at_most_s = min(turn_in, flush_in)
                return Hold(at_most_s=at_most_s, reason="another replica's window has just begun")
        count = max(1, min(most, _num_fitting(queue.prompts, turn.room_tokens)))
        return _release(queue, count, turn, reason)

    def _turn_in_s(self, serving: list[Replica]) -> float:
        """Returns the time until the next replica's turn.

        The turn comes a replica's share of the cycle after the last window began, or a little
        earlier, so that the cycle shrinks to what the replicas can do.
        """
        ages = [r.window_age_s for r in serving if r.window_age_s is not None]
        cycles = [r.cycle_s for r in serving if r.cycle_s is not None]
        if not ages or not cycles:
            return 0.0
        cycle_s = sum(cycles) / len(cycles)
        return _PACE * cycle_s / len(serving) - min(ages)


def _large_enough(replicas: list[Replica], prompt_tokens: int) -> list[Replica]:
    """Return the replicas that could hold a prompt, or the largest ones if none could.

    Lengths are estimates, so that it may fit there after all. If not, the worker refuses it.
    """
    able = [r for r in replicas if r.may_hold(prompt_tokens)]
    if able:
        return able
    largest = max(r.pool.capacity_tokens for r in replicas if r.pool is not None)
    return [r for r in replicas if r.may_hold(largest)]


def _soonest(prompt: Prompt, replicas: list[Replica]) -> Replica:
    """Return the elastic replica where a prompt starts soonest, the first of equal ones."""
    pools = [(r, r.pool) for r in replicas if r.pool is not None]
    return min(pools, key=lambda each: each[1].tokens_before(prompt.tokens, each[0].num_running))[0]


def _most_in_a_wave(queue: Queue, serving: list[Replica]) -> int:
    """Returns the most prompts for one wave: all, or an equal share if several replicas are hungry.

    A buffer may hold far more than a replica's share of a burst, and the others would idle.
    """
    share = (len(queue) + sum(r.num_running for r in serving)) / len(serving)
    hungry = [r for r in serving if r.num_running < _HUNGRY * share]
    return -(-len(queue) // max(1, len(hungry)))


def _longest_without(replicas: list[Replica]) -> Replica:
    """Returns the replica whose last window is oldest."""
    return max(replicas, key=lambda r: inf if r.window_age_s is None else r.window_age_s)


def _num_fitting(prompts: tuple[Prompt, ...], room_tokens: int) -> int:
    """Returns how many of the first prompts fit together into ``room_tokens``."""
    left = room_tokens
    for count, prompt in enumerate(prompts):
        left -= prompt.tokens
        if left < 0:
            return count
    return len(prompts)


def _release(queue: Queue, count: int, replica: Replica, reason: ReleaseReason) -> Release:
    """Returns the release of the first ``count`` prompts, in the order of their arrival."""
    requests = tuple([prompt.id for prompt in queue.prompts[:count]])  # a list is faster
    return Release(replica=replica.name, requests=requests, reason=reason)
