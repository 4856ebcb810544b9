"""The planner: which layouts to prefill and to decode under, and what that gains.

Tries every (data, tensor, pipeline) of the devices at hand, keeps what fits and meets the
latency targets, and holds the best pair that re-shards against the best static layout. Re-sharding
is chosen only where its predicted gain is worth the machinery.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import permutations

from seesaw_core.errors import CapacityError, InputError
from seesaw_core.layouts import Layout, LayoutPair, divisors, misfit, parse_pair
from seesaw_core.planner.accelerators import Accelerator
from seesaw_core.planner.costs import StepCosts
from seesaw_core.planner.estimates import Estimate, estimate_pair, estimate_static
from seesaw_core.planner.memory import EngineLimits
from seesaw_core.planner.models import Model
from seesaw_core.planner.profiles import Profile
from seesaw_core.planner.workloads import Workload

# What a pair must gain over the best static layout. Closer choices cannot be told apart: nine
# plans in ten have a throughput within 3 % of the best choice (``seesaw bench planner``).
MIN_GAIN_TO_RESHARD = 1.03
# Shares of the time. They choose the words of a reason, never the layouts.
_SMALL_PHASE = 0.2
_MANY_TRANSITIONS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """What a plan is asked for. ``data_parallel`` allows several replicas in one deployment."""

    model: Model
    device: Accelerator
    num_devices: int
    workload: Workload
    profile: Profile = field(default_factory=Profile)
    limits: EngineLimits = field(default_factory=EngineLimits)
    data_parallel: bool = True

    def __post_init__(self) -> None:
        if self.num_devices < 1:
            raise InputError(f"number of devices must be at least 1, got {self.num_devices}")

    def costs(self, layout: Layout) -> StepCosts:
        return StepCosts(self.model, self.device, layout, self.profile)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A layout or pair that was not considered further, and why."""

    layout: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The answer. ``best`` is what to run; ``gain`` that of the pair over ``static``.

    ``static`` and ``pairs`` have the best first. ``gain`` is None without a pair.
    """

    best: Estimate
    static: tuple[Estimate, ...]
    pairs: tuple[Estimate, ...]
    gain: float | None
    reason: str
    rejected: tuple[Rejected, ...]


def make_plan(question: PlanRequest) -> Plan:
    """Choose. Raises: CapacityError with every reason if nothing fits."""
    rejected: list[Rejected] = []
    costs = {}
    for layout in layouts_of(question.num_devices, data_parallel=question.data_parallel):
        found = misfit(layout, question.model.shape)
        if found is None:
            costs[layout] = question.costs(layout)
        else:
            rejected.append(Rejected(layout=str(layout), reason=found.reason))
    static = _kept(question, ((c, c) for c in costs.values()), rejected)
    pairs = _kept(question, _pairs(costs), rejected)
    if not static and not pairs:
        raise CapacityError(
            f"{question.model.name} on {question.num_devices} x {question.device.name}: no layout "
            f"fits. {_reasons(rejected)}. Use more or larger devices, a quantized model, or "
            "shorter requests"
        )
    gain = None
    if static and pairs:
        gain = pairs[0].requests_per_s / static[0].requests_per_s
    best, reason = _choose(static, pairs, gain, question)
    return Plan(
        best=best,
        static=tuple(static),
        pairs=tuple(pairs),
        gain=gain,
        reason=reason,
        rejected=tuple(rejected),
    )


def estimate(question: PlanRequest, pair: LayoutPair) -> Estimate:
    """What one choice gives. Raises: CapacityError naming what does not fit."""
    return _estimate(question, question.costs(pair.prefill), question.costs(pair.decode))


def _estimate(question: PlanRequest, prefill: StepCosts, decode: StepCosts) -> Estimate:
    if prefill.layout == decode.layout:
        return estimate_static(decode, question.workload, question.limits)
    return estimate_pair(prefill, decode, question.workload, question.limits)


def layouts_of(num_devices: int, *, data_parallel: bool) -> Iterator[Layout]:
    """Every way to use exactly so many devices."""
    for data in divisors(num_devices) if data_parallel else (1,):
        rest = num_devices // data
        for tensor in divisors(rest):
            yield Layout(data=data, tensor=tensor, pipeline=rest // tensor)


def _reasons(rejected: list[Rejected]) -> str:
    """Why not, of the layouts that come nearest: static, with all devices for one replica."""
    pairs = [parse_pair(r.layout) for r in rejected]
    nearest = [r for r, pair in zip(rejected, pairs) if pair.is_static and pair.decode.data == 1]
    return "; ".join(f"{r.layout}: {r.reason}" for r in nearest or rejected)


def _pairs(costs: dict[Layout, StepCosts]) -> Iterator[tuple[StepCosts, StepCosts]]:
    for prefill, decode in permutations(costs.values(), 2):
        if prefill.layout.data == decode.layout.data:
            yield prefill, decode


def _kept(
    question: PlanRequest,
    choices: Iterator[tuple[StepCosts, StepCosts]],
    rejected: list[Rejected],
) -> list[Estimate]:
    """Estimates of the choices that fit and meet the targets, best first."""
    kept = []
    for prefill, decode in choices:
        pair = LayoutPair(prefill=prefill.layout, decode=decode.layout)
        try:
            found = _estimate(question, prefill, decode)
        except CapacityError as error:
            rejected.append(Rejected(layout=str(pair), reason=str(error)))
        else:
            kept.append(found)
    return sorted(kept, key=lambda e: -e.requests_per_s)


def _choose(
    static: list[Estimate], pairs: list[Estimate], gain: float | None, question: PlanRequest
) -> tuple[Estimate, str]:
    if not pairs:
        return static[0], "no pair of layouts re-shards here: see what was rejected"
    pair = pairs[0]
    if gain is None:
        return pair, "no static layout fits or meets the targets"
    in_percent = f"{100 * (gain - 1):+.0f} %"
    if gain >= MIN_GAIN_TO_RESHARD:
        return pair, (
            f"{in_percent} over the best static layout, {static[0]}: {_because(pair)}; "
            f"transitions take {100 * pair.shares[2]:.1f} % of the time"
        )
    prefill_share, decode_share, _ = static[0].shares
    if question.device.peer_link.kind != "pcie":
        why = f"all-reduces are cheap over {question.device.peer_link.name}"
    elif prefill_share < _SMALL_PHASE:
        why = "prefill is a small part of this work"
    elif decode_share < _SMALL_PHASE:
        why = "decoding is a small part of this work"
    elif pair.shares[2] > _MANY_TRANSITIONS:
        why = (
            f"{pair} would spend {100 * pair.shares[2]:.0f} % of the time on transitions; a longer "
            "flush timeout or a larger KV buffer would make them fewer"
        )
    else:
        why = f"{static[0]} loses little in either phase"
    return static[0], f"re-sharding would change throughput by {in_percent}: {why}"


def _because(pair: Estimate) -> str:
    if pair.prefill.tensor < pair.decode.tensor:
        return (
            f"{pair.prefill} prefills with fewer all-reduces, {pair.decode} decodes with fewer "
            "reads of the weights"
        )
    return f"{pair.prefill} prefills faster, {pair.decode} decodes faster"
