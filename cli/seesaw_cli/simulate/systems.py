"""The systems that ``seesaw simulate`` compares: the plan's choice or a given pair, and others."""

import argparse
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from seesaw_cli.planner_flags.flags import PlannerArgs
from seesaw_core.errors import CapacityError, InputError, LayoutError
from seesaw_core.layouts import Layout, LayoutPair, check_pair, misfit, parse_layout
from seesaw_core.planner.choose import PlanRequest, estimate, make_plan
from seesaw_core.planner.estimates import Estimate
from seesaw_core.planner.memory import USUAL_STEP_TOKENS
from seesaw_core.planner.workloads import summarise
from seesaw_core.resharding.policy import PhasePolicy, Reshard
from seesaw_core.routing.waves import WavePolicy
from seesaw_sim.simulate import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One system to simulate."""

    pair: LayoutPair
    step_tokens: int
    max_requests: int
    reshard: Reshard
    disaggregated: bool = False
    num_instances: int = 0

    def __str__(self) -> str:
        pair = self.pair
        if self.num_instances:
            return f"{self.num_instances}×{pair.decode} elastic"
        if self.disaggregated:
            return f"{pair.prefill}+{pair.decode}"
        if pair.is_static and self.reshard is Reshard.ALWAYS:
            return f"{pair.prefill}→{pair.decode}"
        return str(pair)


def systems(
    args: PlannerArgs, options: argparse.Namespace, *, say: Callable[[str], None]
) -> Iterator[System]:
    """Yield the systems to simulate, the given or planned one first."""
    if (options.prefill is None) != (options.decode is None):
        raise InputError("--prefill and --decode go together: give both or neither")
    reshard = Reshard(options.reshard)
    request = args.plan_request(summarise(args.requests, concurrency=options.concurrency))
    plan = make_plan(request) if options.prefill is None or options.compare else None
    main: Estimate | None = None
    if options.prefill is None:
        assert plan is not None
        main = plan.best
        say(f"planned: {main}, with steps of {main.step_tokens} tokens ({plan.reason})")
        yield _planned(main, Reshard.NEVER if main.is_static else reshard)
    else:
        given = LayoutPair(
            prefill=_layout(options.prefill, "--prefill", args),
            decode=_layout(options.decode, "--decode", args),
        )
        yield _given(request, given, reshard)
    if options.compare:
        assert plan is not None
        other = plan.pairs if main is not None and main.is_static else plan.static
        if not other:
            kind = "pair" if other is plan.pairs else "static layout"
            raise CapacityError(f"no {kind} fits, so there is nothing to compare with")
        yield _planned(other[0], Reshard.NEVER if other[0].is_static else reshard)
    if options.disaggregate is not None:
        first, colon, second = options.disaggregate.partition(":")
        if not colon:
            raise InputError(
                f"--disaggregate={options.disaggregate}: write the prefill and the decode layout, "
                "such as D2T2:T4"
            )
        apart = LayoutPair(
            prefill=_layout(first, f"--disaggregate={options.disaggregate}: prefill", args),
            decode=_layout(second, f"--disaggregate={options.disaggregate}: decode", args),
        )
        yield replace(_given(request, apart, reshard), disaggregated=True)
    if options.elastic is not None:
        yield _elastic(options.elastic, request, args)


def _elastic(text: str, request: PlanRequest, args: PlannerArgs) -> System:
    """Read instances as COUNT:LAYOUT, such as 4:T2."""
    count, colon, layout = text.partition(":")
    if not colon or not count.isascii() or not count.isdecimal() or not 1 <= int(count[:5]) <= 64:
        raise InputError(
            f"--elastic={text[:40]}: write the number of instances, from 1 to 64, and the layout "
            "of each, such as 4:T2"
        )
    each = _layout(layout, f"--elastic={count}:", args)
    if each.data > 1 or each.pipeline > 1:
        raise LayoutError(
            f"--elastic={text[:40]}: an instance is tensor-parallel alone, such as 4:T2; give more "
            "instances instead"
        )
    system = _given(request, LayoutPair(prefill=each, decode=each), Reshard.NEVER)
    return replace(system, num_instances=int(count))


def _layout(text: str, flag: str, args: PlannerArgs) -> Layout:
    """Read a layout. Raises: LayoutError naming the flag if the model cannot take it."""
    try:
        layout = parse_layout(text)
    except LayoutError as error:
        raise LayoutError(f"{flag}: {error}") from error
    unfit = misfit(layout, args.model.shape)
    if unfit is not None:
        shown = text if flag.endswith(":") else f"={text}"
        raise LayoutError(f"{flag}{shown}: {unfit.reason}; {unfit.hint}")
    return layout


def _planned(choice: Estimate, reshard: Reshard) -> System:
    return System(
        pair=choice.pair,
        step_tokens=choice.step_tokens,
        max_requests=choice.max_requests,
        reshard=reshard,
    )


def _given(request: PlanRequest, pair: LayoutPair, reshard: Reshard) -> System:
    """Return a given pair, with the planner's step size or, without an estimate, the usual one."""
    steps = request.limits.step_tokens
    step_tokens = USUAL_STEP_TOKENS if USUAL_STEP_TOKENS in steps else steps[0]
    with contextlib.suppress(LayoutError):
        check_pair(pair.prefill, pair.decode, request.model.shape)
        estimated = estimate(request, pair)
        if isinstance(estimated, Estimate):
            step_tokens = estimated.step_tokens
    return System(
        pair=pair,
        step_tokens=step_tokens,
        max_requests=request.limits.max_requests,
        reshard=reshard,
    )


def scenario_of(args: PlannerArgs, options: argparse.Namespace, system: System) -> Scenario:
    return Scenario(
        model=args.model,
        device=args.device,
        prefill=system.pair.prefill,
        decode=system.pair.decode,
        num_replicas=options.replicas,
        profile=args.profile,
        step_tokens=system.step_tokens,
        max_requests=system.max_requests,
        buffer_bytes=args.limits.buffer_bytes,
        policy=PhasePolicy(reshard=system.reshard, flush_timeout_s=options.flush_timeout_s),
        waves=WavePolicy(max_wait_s=options.max_wait_s, stagger=not options.no_stagger),
        disaggregated=system.disaggregated,
        num_instances=system.num_instances,
    )
