"""The planner: which layouts to prefill and decode under, and what re-sharding gains.

The planner tries every (data, tensor, pipeline) of the given devices, keeps the choices that fit
and meet the latency targets, and compares the best pair that re-shards with the best static layout.
It chooses re-sharding only where the predicted gain is worth it, and is no loss at the low end of
its band.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations

from seesaw_core.errors import CapacityError, InputError
from seesaw_core.layouts import Layout, LayoutPair, divisors, misfit
from seesaw_core.planner.accelerators import Accelerator
from seesaw_core.planner.bands import Band, Errors, known_errors, other_links, ratio_band
from seesaw_core.planner.costs import StepCosts
from seesaw_core.planner.estimates import Estimate, estimate_pair, estimate_static
from seesaw_core.planner.memory import EngineLimits, Unfit
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
    """What to plan for. ``data_parallel`` allows several replicas in one deployment.

    ``is_calibrated`` means that the profile was measured on these devices and their links.
    """

    model: Model
    device: Accelerator
    num_devices: int
    workload: Workload
    profile: Profile = field(default_factory=Profile)
    limits: EngineLimits = field(default_factory=EngineLimits)
    data_parallel: bool = True
    is_calibrated: bool = False

    def __post_init__(self) -> None:
        if self.num_devices < 1:
            raise InputError(f"number of devices must be at least 1, got {self.num_devices}")

    def costs(self, layout: Layout) -> StepCosts:
        return StepCosts(self.model, self.device, layout, self.profile)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A static layout or a pair that the planner did not consider further, and why."""

    pair: LayoutPair
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The planner's answer. ``best`` is the choice to run.

    ``static`` and ``pairs`` are sorted, the best first. ``gain`` is the throughput of the pair that
    is ``best``, else of the first one, over that of the best static layout; None if either is
    missing. ``gain_band`` has its bounds. ``close`` are choices that cannot be told from ``best``.
    """

    best: Estimate
    static: tuple[Estimate, ...]
    pairs: tuple[Estimate, ...]
    gain: float | None
    gain_band: Band | None
    reason: str
    rejected: tuple[Rejected, ...]
    close: tuple[LayoutPair, ...] = ()


def make_plan(request: PlanRequest) -> Plan:
    """Choose layouts. Raises: CapacityError with every reason if nothing fits."""
    rejected: list[Rejected] = []
    costs = {}
    for layout in layouts_of(request.num_devices, data_parallel=request.data_parallel):
        unfit = misfit(layout, request.model.shape)
        if unfit is None:
            costs[layout] = request.costs(layout)
        else:
            rejected.append(Rejected(pair=LayoutPair.static(layout), reason=unfit.reason))
    static = _estimate_all(request, ((c, c) for c in costs.values()), rejected)
    pairs = []
    if request.model.static_only is None:
        pairs = _estimate_all(request, _pairs(costs), rejected)
    if not static and not pairs:
        raise CapacityError(
            f"{request.model.name} on {request.num_devices} x {request.device.name}: no layout "
            f"fits. {_reasons(rejected)}. Use more or larger devices, a quantized model, or "
            "shorter requests"
        )
    compared = _Compared.of(request, [*static, *pairs])
    static, pairs = (
        [replace(e, band=compared.band(e)) for e in found] for found in (static, pairs)
    )
    pair, gain_band = _candidate(static, pairs, compared)
    gain = None
    if static and pair is not None:
        gain = pair.requests_per_s / static[0].requests_per_s
    best, reason = _choose(static, pair, Gain(gain, gain_band), request)
    others = (e for e in (*static, *pairs) if e is not best)
    return Plan(
        best=best,
        static=tuple(static),
        pairs=tuple(pairs),
        gain=gain,
        gain_band=gain_band,
        reason=reason,
        rejected=tuple(rejected),
        close=tuple(e.pair for e in others if compared.ratio(e, [best]).holds_one),
    )


def _candidate(
    static: list[Estimate], pairs: list[Estimate], compared: "_Compared"
) -> tuple[Estimate | None, Band | None]:
    """Return the first pair whose gain is worth it and no loss at its low end, else the first."""
    if not static or not pairs:
        return (pairs[0] if pairs else None), None
    for pair in pairs:
        if pair.requests_per_s < MIN_GAIN_TO_RESHARD * static[0].requests_per_s:
            break
        band = compared.ratio(pair, static)
        if band.low >= 1:
            return pair, band
    return pairs[0], compared.ratio(pairs[0], static)


@dataclass(frozen=True, slots=True)
class Gain:
    """What a pair gains over the best static layout, with the band of that."""

    value: float | None
    band: Band | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compared:
    """Requests per second of all choices under each choice of links, the request's own first."""

    rates: tuple[Mapping[LayoutPair, float], ...]
    errors: Errors

    @classmethod
    def of(cls, request: PlanRequest, estimates: Sequence[Estimate]) -> "_Compared":
        asked = request.device, request.profile
        rates = [{e.pair: e.requests_per_s for e in estimates}]
        for device, profile in other_links(*asked, is_calibrated=request.is_calibrated):
            other = replace(request, device=device, profile=profile)
            rates.append({e.pair: _rate(other, e.pair) for e in estimates})
        errors = known_errors(request.model, *asked, is_calibrated=request.is_calibrated)
        return cls(rates=tuple(rates), errors=errors)

    def band(self, estimate: Estimate) -> Band:
        """Return the band of an estimate's rates."""
        own = [rates[estimate.pair] / estimate.requests_per_s for rates in self.rates]
        return Band(low=min(own), high=max(own)).widened(self.errors.figure)

    def ratio(self, one: Estimate, others: Sequence[Estimate]) -> Band:
        """Return the band of one choice's rate over that of the best of others."""
        ratios = []
        for rates in self.rates:
            best = max(rates[e.pair] for e in others)
            ratios.append(rates[one.pair] / best if best else 1.0)
        return ratio_band(ratios, self.errors)


def _rate(request: PlanRequest, pair: LayoutPair) -> float:
    found = estimate(request, pair)
    return 0.0 if isinstance(found, Unfit) else found.requests_per_s


def estimate(request: PlanRequest, pair: LayoutPair) -> Estimate | Unfit:
    """Estimate one choice."""
    return _estimate(request, request.costs(pair.prefill), request.costs(pair.decode))


def _estimate(request: PlanRequest, prefill: StepCosts, decode: StepCosts) -> Estimate | Unfit:
    if prefill.layout == decode.layout:
        return estimate_static(decode, request.workload, request.limits)
    return estimate_pair(prefill, decode, request.workload, request.limits)


def layouts_of(num_devices: int, *, data_parallel: bool) -> Iterator[Layout]:
    """Yield every layout that uses exactly ``num_devices``."""
    for data in divisors(num_devices) if data_parallel else (1,):
        rest = num_devices // data
        for tensor in divisors(rest):
            yield Layout(data=data, tensor=tensor, pipeline=rest // tensor)


def _reasons(rejected: list[Rejected]) -> str:
    """Return why the nearest layouts do not fit: static, with all devices for one replica."""
    nearest = [r for r in rejected if r.pair.is_static and r.pair.decode.data == 1]
    return "; ".join(f"{r.pair}: {r.reason}" for r in nearest or rejected)


def _pairs(costs: dict[Layout, StepCosts]) -> Iterator[tuple[StepCosts, StepCosts]]:
    for prefill, decode in permutations(costs.values(), 2):
        if prefill.layout.data == decode.layout.data:
            yield prefill, decode


def _estimate_all(
    request: PlanRequest,
    choices: Iterator[tuple[StepCosts, StepCosts]],
    rejected: list[Rejected],
) -> list[Estimate]:
    """Estimate the choices, best first. Those that do not fit or miss a target are rejected."""
    estimates = []
    for prefill, decode in choices:
        estimated = _estimate(request, prefill, decode)
        if isinstance(estimated, Unfit):
            pair = LayoutPair(prefill=prefill.layout, decode=decode.layout)
            rejected.append(Rejected(pair=pair, reason=estimated.reason))
        else:
            estimates.append(estimated)
    return sorted(estimates, key=lambda e: -e.requests_per_s)


def _choose(
    static: list[Estimate], pair: Estimate | None, gain: Gain, request: PlanRequest
) -> tuple[Estimate, str]:
    if request.model.static_only is not None:
        return static[0], (
            f"re-sharding cannot serve this model, since {request.model.static_only}: the best "
            "static layout"
        )
    if pair is None:
        return static[0], "no pair of layouts can re-shard here: see the rejected choices"
    if gain.value is None or gain.band is None:
        return pair, "no static layout fits or meets the targets"
    band = f"({_percent(gain.band.low)} to {_percent(gain.band.high)})"
    in_percent = f"{_percent(gain.value)} {band}"
    if gain.value >= MIN_GAIN_TO_RESHARD and gain.band.low >= 1:
        return pair, (
            f"{in_percent} over the best static layout, {static[0]}: {_because(pair)}; "
            f"transitions take {100 * pair.shares[2]:.1f} % of the time"
        )
    if gain.value >= MIN_GAIN_TO_RESHARD:
        return static[0], (
            f"too close to call: {pair} would change throughput by {in_percent}, "
            f"{_unknown(request)}"
        )
    prefill_share, decode_share, _ = static[0].shares
    if request.device.peer_link.kind != "pcie":
        why = f"all-reduces are cheap over {request.device.peer_link.name}"
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


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.0f} %"


def _unknown(request: PlanRequest) -> str:
    """Return why a comparison is not closer, and what would help."""
    if other_links(request.device, request.profile, is_calibrated=request.is_calibrated):
        return "since the links of this server were not measured: `seesaw calibrate` does"
    if not request.is_calibrated:
        return "within what predictions are known to be off by: `seesaw calibrate` narrows it"
    return "within what predictions are known to be off by"


def _because(pair: Estimate) -> str:
    if pair.prefill.tensor < pair.decode.tensor:
        return (
            f"{pair.prefill} prefills with fewer all-reduces, {pair.decode} decodes with fewer "
            "reads of the weights"
        )
    return f"{pair.prefill} prefills faster, {pair.decode} decodes faster"
