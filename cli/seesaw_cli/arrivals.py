"""Compares systems on requests that arrive over time: when elastic instances beat the rest.

The planner's estimates are of throughput, where elastic instances gain nothing: they do the same
work on the same devices. They gain latency, when short prompts would wait behind long ones. So the
planner's best choices and every way to divide the devices into instances serve the requests on the
simulator, and the one with the least mean latency is best.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from seesaw_cli.planner_flags.flags import PlannerArgs
from seesaw_core.errors import CapacityError
from seesaw_core.layouts import Layout, LayoutPair, misfit
from seesaw_core.planner.choose import Plan
from seesaw_core.planner.estimates import Estimate
from seesaw_core.planner.memory import USUAL_STEP_TOKENS
from seesaw_core.resharding.policy import PhasePolicy, Reshard
from seesaw_sim.draws import arriving
from seesaw_sim.simulate import Scenario, simulate

_MOST_REQUESTS = 500  # so that the command takes seconds
_CHOICES = 3  # of the plan's static layouts and of its pairs: the best by throughput
# What elastic instances must gain before they are advised: lengths and costs are not exact.
_LEAST_GAIN = 1.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """How one system serves the requests: means. Units in the names."""

    name: str
    latency_s: float
    ttft_s: float
    requests_per_s: float
    choice: Estimate | None = None
    instances: int = 0
    tensor: int = 0


def compare(args: PlannerArgs, plan: Plan, per_s: float | None) -> list[Served]:
    """Return the systems, the best first. An elastic one is best only if it gains 5 %.

    per_s: requests that arrive a second, None to take the arrivals of the requests.
    """
    requests = args.requests[:_MOST_REQUESTS]
    if per_s is not None:
        requests = arriving(requests, per_s=per_s)
    served = []
    for name, scenario, found in _candidates(args, plan):
        try:
            report = simulate(scenario, requests)
        except CapacityError:
            continue
        served.append(
            replace(
                found,
                name=name,
                latency_s=report.latency.mean,
                ttft_s=report.ttft.mean,
                requests_per_s=report.requests_per_s,
            )
        )
    return sorted(served, key=lambda s: s.latency_s * (_LEAST_GAIN if s.instances else 1.0))


def as_lines(served: Sequence[Served]) -> list[tuple[str, ...]]:
    """Rows for a table."""
    return [
        (s.name, f"{s.latency_s:,.2f}", f"{s.ttft_s:,.2f}", f"{s.requests_per_s:,.2f}")
        for s in served
    ]


def _candidates(args: PlannerArgs, plan: Plan) -> Iterator[tuple[str, Scenario, Served]]:
    empty = Served(name="", latency_s=0.0, ttft_s=0.0, requests_per_s=0.0)
    for kind, choices in (("static", plan.static), ("re-sharding", plan.pairs)):
        for choice in choices[:_CHOICES]:
            reshard = Reshard.NEVER if choice.is_static else Reshard.AUTO
            scenario = replace(
                _scenario(args, choice.pair),
                step_tokens=choice.step_tokens,
                max_requests=choice.max_requests,
                policy=PhasePolicy(reshard=reshard, flush_timeout_s=args.limits.flush_timeout_s),
            )
            yield f"{kind} {choice}", scenario, replace(empty, choice=choice)
    if not args.model.is_plain or args.model.kv_bytes != args.model.dtype_bytes:
        return  # a worker's elastic instances refuse other attention, and narrower KV
    for instances in range(2, args.num_devices + 1):
        tensor, left = divmod(args.num_devices, instances)
        layout = Layout(tensor=max(1, tensor))
        if left or misfit(layout, args.model.shape) is not None:
            continue
        scenario = replace(_scenario(args, LayoutPair.static(layout)), num_instances=instances)
        found = replace(empty, instances=instances, tensor=tensor)
        yield f"elastic {instances}×T{tensor}", scenario, found


def _scenario(args: PlannerArgs, pair: LayoutPair) -> Scenario:
    return Scenario(
        model=args.model,
        device=args.device,
        prefill=pair.prefill,
        decode=pair.decode,
        profile=args.profile,
        step_tokens=USUAL_STEP_TOKENS,
        max_requests=args.limits.max_requests,
        buffer_bytes=args.limits.buffer_bytes,
    )
