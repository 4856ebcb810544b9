"""Rounds of ``seesaw calibrate``: each system in turn, several times over.

A machine's speed drifts, and two workers of one layout differ by more than the repeats under one
worker. Rounds spread both over all systems, the sweep and the checks. Every other round goes
backwards, so that a machine that slows down steadily slows down all systems alike.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from statistics import mean, median

from seesaw_cli.calibrate.runs import Machine, Result, Run, measure, say
from seesaw_core.errors import BrokenError
from seesaw_core.layouts import Layout, LayoutPair
from seesaw_core.planner.accelerators import Accelerator
from seesaw_core.planner.costs import StepCosts
from seesaw_core.planner.models import Model
from seesaw_core.planner.profiles import Profile
from seesaw_core.resharding.policy import PhasePolicy, Reshard
from seesaw_core.units import GIB
from seesaw_sim.fitting import Measurement
from seesaw_sim.simulate import Scenario

_Key = tuple[LayoutPair, Run]
_Times = dict[_Key, list[list[float]]]  # the repeats of each round


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Medians over all rounds and repeats, and the mean transition. Units: seconds.

    ``spread`` is the largest share by which the medians of one run differ between rounds;
    ``least_steady`` names that run.
    """

    sweep: list[Measurement]
    checks: list[Measurement]
    transition_s: float
    spread: float
    least_steady: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One model on some devices of this machine, to be measured."""

    model: Model
    device: Accelerator
    machine: Machine
    devices: int

    @property
    def layouts(self) -> tuple[Layout, Layout]:
        return Layout(tensor=self.devices), Layout(pipeline=self.devices)

    @property
    def systems(self) -> tuple[LayoutPair, ...]:
        """Return both static layouts and the pair that re-shards."""
        tensor, pipeline = self.layouts
        static = (LayoutPair(prefill=each, decode=each) for each in (tensor, pipeline))
        return (*static, LayoutPair(prefill=pipeline, decode=tensor))

    def measure(self, sweep: list[Run], checks: list[Run], *, rounds: int) -> Measured:
        """Measure all rounds.

        Raises: EngineDiedError; BrokenError if a request failed or nothing re-sharded.
        """
        results = []
        for number, system in self.turns(rounds):
            say(f"round {number} of {rounds}: {system}")
            first = sweep if system.is_static else sweep[:1]  # for its transitions alone
            results.append((system, measure(self.machine, system, first, checks)))
        return self.fold(results)

    def turns(self, rounds: int) -> Iterator[tuple[int, LayoutPair]]:
        """Yield each system to measure with the number of its round, from 1."""
        for number in range(1, rounds + 1):
            for system in self.systems if number % 2 else reversed(self.systems):
                yield number, system

    def fold(self, results: Sequence[tuple[LayoutPair, Result]]) -> Measured:
        """Combine the results of all rounds. Raises: BrokenError if nothing re-sharded."""
        swept: _Times = defaultdict(list)
        checked: _Times = defaultdict(list)
        for system, result in results:
            for run, times in result.sweep.items():
                if system.is_static:
                    swept[system, run].append(times)
            for run, times in result.checks.items():
                checked[system, run].append(times)
        transitions_s = [r.transition_s for _, r in results if r.transition_s is not None]
        if not transitions_s:
            raise BrokenError(
                f"{self.systems[-1]} never re-sharded, although --reshard=always was set"
            )
        spread = {key: _spread(times) for key, times in {**swept, **checked}.items()}
        system, run = max(spread, key=spread.__getitem__)
        return Measured(
            sweep=self._measurements(swept),
            checks=self._measurements(checked),
            transition_s=mean(transitions_s),
            spread=spread[system, run],
            least_steady=f"{system} {run.name}",
        )

    def overhead_s(self, transition_s: float, profile: Profile) -> float:
        """Return a transition's time besides the copy of the weights that the profile predicts."""
        without = replace(profile, transition_overhead_ms=0.0)
        copies_s = [
            StepCosts(self.model, self.device, layout, without).transition_s()
            for layout in self.layouts
        ]
        return max(0.0, transition_s - mean(copies_s))

    def _measurements(self, times: Mapping[_Key, list[list[float]]]) -> list[Measurement]:
        return [
            Measurement(
                name=f"{system} {run.name}",
                scenario=self._scenario(system),
                requests=run.requests,
                seconds=median(chain.from_iterable(rounds)),
            )
            for (system, run), rounds in times.items()
        ]

    def _scenario(self, system: LayoutPair) -> Scenario:
        return Scenario(
            model=self.model,
            device=self.device,
            prefill=system.prefill,
            decode=system.decode,
            step_tokens=self.machine.step_tokens,
            max_requests=self.machine.max_requests,
            buffer_bytes=self.machine.buffer_gib * GIB / self.devices,
            policy=PhasePolicy(
                reshard=Reshard.NEVER if system.is_static else Reshard.ALWAYS,
                flush_timeout_s=self.machine.flush_timeout_s,
            ),
        )


def _spread(rounds: list[list[float]]) -> float:
    medians = [median(repeats) for repeats in rounds]
    return max(medians) / min(medians) - 1
