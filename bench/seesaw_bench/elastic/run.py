"""Runs the benchmark: starts the subjects, lets them take turns, and collects the figures."""

import contextlib
import os
import random
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seesaw_bench.elastic.scripted import Wish
from seesaw_bench.elastic.workload import Study, Workload
from seesaw_bench.worker.link import Job, Subject
from seesaw_bench.worker.machine import machine_facts
from seesaw_bench.worker.spread import Spread
from seesaw_bench.worker.workload import ModelFacts
from seesaw_core.elastic.batching import divide
from seesaw_core.elastic.costs import PrefillCost
from seesaw_core.layouts import Layout
from seesaw_worker.modes.static.reference import plain_environment
from seesaw_worker.processes.forking import BIND_VARIABLE

_CALM_S = 1.2  # plain vLLM's idle ranks spin on their cores for a second
_PROMPTS, _INSTANCES = 200, 16

Say = Callable[[str], None]


@dataclass(slots=True, kw_only=True)
class Measured:
    """All results. ``figures`` holds a list by name, with a value per round. Units: seconds."""

    workload: Workload
    instances: int
    machine: dict[str, Any] = field(default_factory=machine_facts)
    figures: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    costs: dict[int, PrefillCost] = field(default_factory=dict)
    seconds: float = 0.0

    def spread(self, name: str) -> Spread:
        return Spread.of(self.figures[name])

    def ratio(self, above: str, below: str) -> Spread:
        """Return a ratio of two figures, round by round."""
        return Spread.of_ratios(self.spread(above), self.spread(below))


def measure(model: Path, workload: Workload, *, logs: Path, say: Say) -> Measured:
    """Measure the chosen studies. Raises: EngineDiedError if a subject fails."""
    began = time.monotonic()
    measured = Measured(workload=workload, instances=max(2, len(os.sched_getaffinity(0))))
    if Study.DIVIDE in workload.studies:
        say(f"dividing {_PROMPTS} prompts over {_INSTANCES} instances")
        _divide(measured)
    if set(workload.studies) - {Study.DIVIDE}:
        with contextlib.ExitStack() as stack:
            subjects = _start(stack, model, measured, logs, say)
            for number in range(workload.rounds):
                for study in workload.studies:
                    if study in _STUDIES:
                        say(f"round {number + 1} of {workload.rounds}: {study}")
                        _STUDIES[study](subjects, measured)
            say("stopping")
    measured.seconds = time.monotonic() - began
    return measured


def _start(
    stack: contextlib.ExitStack, model: Path, measured: Measured, logs: Path, say: Say
) -> dict[str, Subject]:
    """Start elastic instances of a core each, plain vLLM on one core and, if used, on all."""
    work, facts = measured.workload, ModelFacts.read(model)
    ranks = {"elastic": measured.instances, "plain": 1, "tensor": measured.instances}
    if not {Study.TTFT, Study.BESIDE} & set(work.studies):
        del ranks["tensor"]
    say(f"starting {measured.instances} elastic instances and plain vLLM, a core a rank")
    subjects = {}
    for kind, number in ranks.items():
        job = Job(
            kind=kind,
            model=str(model),
            dtype=facts.dtype,
            max_len=work.max_len,
            max_seqs=max(*work.batches, work.short_number) + 2,
            chunk=work.chunk,
            pool_bytes=facts.token_bytes * (2 * work.max_len + 8192),
            ranks=number,
        )
        name = "elastic" if kind == "elastic" else "plain"
        subject = Subject(
            f"seesaw_bench.elastic.{name}_subject",
            job,
            log=logs / f"bench-{kind}.log",
            environment=_environment(kind, measured.instances),
        )
        subjects[kind] = stack.enter_context(subject)
    for subject in subjects.values():
        subject.ask("ready")
        subject.ask("first_token", tokens=128)  # what comes first takes longer
    costs = subjects["elastic"].ask("costs")
    measured.costs = {int(degree): PrefillCost(**cost) for degree, cost in costs.items()}
    return subjects


def _environment(kind: str, instances: int) -> dict[str, str]:
    if kind == "elastic":
        return dict(os.environ)
    environment = plain_environment(Layout(tensor=instances))
    environment.pop("TORCHDYNAMO_DISABLE", None)  # the elastic engine does not set it either
    if kind == "plain":
        environment[BIND_VARIABLE] = environment[BIND_VARIABLE].split("|")[0]
    return environment


def degrees(measured: Measured) -> list[int]:
    """Return the degrees that are measured: 1, 2, 4 … up to the number of instances."""
    return [2**n for n in range(measured.instances.bit_length())]


def _ttft(subjects: dict[str, Subject], measured: Measured) -> None:
    for tokens in measured.workload.lengths:
        for degree in degrees(measured):
            answer = subjects["elastic"].ask(
                "first_token", tokens=tokens, name=Wish(degree=degree).name
            )
            measured.figures[f"ttft.{tokens}.degree{degree}"].append(answer["s"])
        for kind in ("plain", "tensor"):
            answer = subjects[kind].ask("first_token", tokens=tokens)
            measured.figures[f"ttft.{tokens}.{kind}"].append(answer["s"])
            time.sleep(_CALM_S)


def _beside(subjects: dict[str, Subject], measured: Measured) -> None:
    work = measured.workload
    short = {
        "number": work.short_number,
        "every_s": work.short_every_s,
        "prompt": work.short_prompt,
        "tokens": work.short_tokens,
    }
    for kind in ("elastic", "tensor"):
        for name, long_tokens in (("alone", 0), ("beside", work.long_prompt)):
            answer = subjects[kind].ask("beside", short=short, long_tokens=long_tokens)
            for part, value in answer.items():
                measured.figures[f"{name}.{kind}.{part}"].append(value)
        time.sleep(_CALM_S)


def _steps(subjects: dict[str, Subject], measured: Measured) -> None:
    work, elastic = measured.workload, subjects["elastic"]
    for keep in (1, 2):
        wish = Wish(degree=2, keep=keep).name
        answer = elastic.ask("first_token", tokens=work.long_prompt, name=wish)
        measured.figures[f"steps.down.keep{keep}"].append(answer["s"])
        for batch in work.batches:
            answer = _decode(elastic, work, batch, wish)
            measured.figures[f"steps.up.keep{keep}.batch{batch}"].append(answer)


def _overhead(subjects: dict[str, Subject], measured: Measured) -> None:
    work, wish = measured.workload, Wish().name
    for kind, name in (("elastic", wish), ("plain", "bench")):
        for batch in work.batches:
            seconds = _decode(subjects[kind], work, batch, name)
            measured.figures[f"overhead.{kind}.decode{batch}"].append(seconds)
        several = [subjects[kind].ask("first_token", tokens=128, name=name)["s"] for _ in range(5)]
        measured.figures[f"overhead.{kind}.prefill"].append(sorted(several)[2])
        time.sleep(_CALM_S)


def _decode(subject: Subject, work: Workload, batch: int, name: str) -> float:
    answer = subject.ask(
        "decode", batch=batch, context=work.context, tokens=work.decoded, name=name
    )
    return float(answer["step_s"])


def _divide(measured: Measured) -> None:
    rng = random.Random(0)
    costs = {
        d: PrefillCost(alpha_s=0.01, beta_s=1e-4 / d, gamma_s=1e-8 / d)
        for d in range(1, _INSTANCES + 1)
    }
    lengths = sorted((rng.randrange(100, 30_000) for _ in range(_PROMPTS)), reverse=True)
    for _ in range(max(5, measured.workload.rounds)):
        began = time.perf_counter()
        divide(lengths, [400_000] * _INSTANCES, costs)
        measured.figures["divide"].append(time.perf_counter() - began)


_STUDIES = {
    Study.TTFT: _ttft,
    Study.BESIDE: _beside,
    Study.STEPS: _steps,
    Study.OVERHEAD: _overhead,
}
