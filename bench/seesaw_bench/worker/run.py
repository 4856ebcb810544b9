"""Runs the benchmark: starts every subject, lets them take turns, and collects the figures."""

import contextlib
import os
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from seesaw_bench.worker.link import Job, Subject
from seesaw_bench.worker.machine import machine_facts
from seesaw_bench.worker.memory import TreeMemory, tree_memory
from seesaw_bench.worker.spread import Spread
from seesaw_bench.worker.workload import DECODE, PREFILL, ModelFacts, Workload
from seesaw_core.errors import CapacityError
from seesaw_core.units import GIB
from seesaw_worker.modes.static.reference import plain_environment

_PROCESS_TREE_BYTES = int(2.3 * GIB)
_COPIES_OF_WEIGHTS = 5.2
_STEPS_BETWEEN_EXTRAS = 3
_TRANSITIONS = 3  # a round, each way
_CALM_S = 1.5  # plain vLLM's idle ranks spin on their cores for a second
_SUBJECTS = {
    "seesaw": "seesaw_bench.worker.seesaw_subject",
    "resident": "seesaw_bench.worker.seesaw_subject",
    "plain": "seesaw_bench.worker.plain_subject",
    "packed": "seesaw_bench.worker.plain_subject",
}
DIRECTIONS = ("prefill", "decode")

Say = Callable[[str], None]


@dataclass(slots=True, kw_only=True)
class Measured:
    """All results. ``figures`` holds a list by name, with a value per round.

    memory: by subject; that of ``seesaw`` from before the others started.
    """

    workload: Workload
    model: str
    model_bytes: int
    machine: dict[str, Any]
    facts: dict[str, Any] = field(default_factory=dict)
    figures: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    memory: dict[str, TreeMemory] = field(default_factory=dict)
    seconds: float = 0.0

    def note(self, prefix: str, values: dict[str, Any]) -> None:
        for name, value in values.items():
            self.figures[f"{prefix}.{name}"].append(float(value))

    def spread(self, name: str) -> Spread:
        return Spread.of(self.figures[name])


def measure(model: Path, workload: Workload, *, logs: Path, say: Say) -> Measured:
    """Measure everything on one model.

    Raises: CapacityError if memory is short; ModelError; EngineDiedError if a subject fails.
    """
    began = time.monotonic()
    facts = ModelFacts.read(model)
    _check_memory(facts, workload)
    measured = Measured(
        workload=workload,
        model=str(model),
        model_bytes=facts.weights_bytes,
        machine=machine_facts(),
    )
    with contextlib.ExitStack() as subjects:

        def start(kind: str) -> Subject:
            job = Job(
                kind=kind,
                model=str(model),
                dtype=facts.dtype,
                max_len=workload.max_len,
                max_seqs=workload.max_seqs,
                chunk=workload.chunk,
                pool_bytes=workload.pool_tokens * facts.token_bytes // DECODE.num_devices,
                buffer_gib=workload.buffer_tokens * facts.token_bytes / GIB,
            )
            subject = Subject(
                _SUBJECTS[kind], job, log=logs / f"bench-{kind}.log", environment=_environment(kind)
            )
            return subjects.enter_context(subject)

        say(f"starting Seesaw: prefill {PREFILL}, decode {DECODE}, one weights arena a device")
        seesaw = start("seesaw")
        measured.facts["seesaw"] = seesaw.ask("ready")
        round_of_seesaw = _SeesawRound(seesaw, Measured(**_blank(measured)))
        round_of_seesaw.prepare()
        round_of_seesaw.run(0)
        measured.memory["seesaw"] = tree_memory(seesaw.pid)
        say("starting the others: Seesaw with resident weights, plain vLLM twice")
        others = {kind: start(kind) for kind in _SUBJECTS if kind != "seesaw"}
        for kind, subject in others.items():
            measured.facts[kind] = subject.ask("ready")
        round_of_seesaw.measured = measured
        for number in range(-1, workload.rounds):
            say(f"round {number + 1} of {workload.rounds}{'' if number >= 0 else ' (warm-up)'}")
            if number < 0:
                _steady_round({"seesaw": seesaw} | others, Measured(**_blank(measured)), number)
                _resident_round(others["resident"], Measured(**_blank(measured)))
                continue
            round_of_seesaw.run(number)
            _resident_round(others["resident"], measured)
            _steady_round({"seesaw": seesaw} | others, measured, number)
        for kind, subject in others.items():
            measured.memory[kind] = tree_memory(subject.pid)
        say("stopping")
    measured.seconds = time.monotonic() - began
    return measured


class _SeesawRound:
    """The measurements of a round that only Seesaw takes part in."""

    def __init__(self, seesaw: Subject, measured: Measured) -> None:
        self._seesaw = seesaw
        self.measured = measured
        self._every_s = 0.0

    def prepare(self) -> None:
        """Store the entries to be loaded later, and measure how long a step takes."""
        work = self.measured.workload
        self._seesaw.ask("switch", to="prefill")
        self._seesaw.ask("store", entries=work.entries, tokens=work.entry)
        self._seesaw.ask("switch", to="decode")
        self._decode("none")  # the first steps of an engine take longer
        self._every_s = _STEPS_BETWEEN_EXTRAS * self._decode("none")["step_s"]

    def run(self, number: int) -> None:
        self._transitions(number)
        self._prefills(number)
        self._arrivals(number)

    def _transitions(self, number: int) -> None:
        """Measure several transitions in a row, as under load, and note their median.

        Seesaw was idle while the others were measured, and memory that has not been touched for
        minutes may be slow at first, for a memcpy as well. So one of the two, in turn, goes first
        and is noted separately.
        """
        work, measured = self.measured.workload, self.measured
        if number % 2:
            self._note_memcpy("decode", "idle_memcpy")
            _ask_transitions(self._seesaw, work)
        else:
            for to, parts in _ask_transitions(self._seesaw, work).items():
                measured.note(f"idle_transition.{to}", parts)
        several = [_ask_transitions(self._seesaw, work) for _ in range(_TRANSITIONS)]
        for to in DIRECTIONS:
            measured.note(
                f"transition.{to}",
                {part: median(each[to][part] for each in several) for part in several[0][to]},
            )
        self._note_memcpy("decode")

    def _prefills(self, number: int) -> None:
        work = self.measured.workload
        self._seesaw.ask("switch", to="prefill")
        self._note_memcpy("prefill")
        batch = {"prompts": work.prompts, "tokens": work.prompt}
        self._seesaw.ask("prefill", **batch, leaving=True)  # the first after a switch is slower
        for leaving in _turns((True, False), number):
            figures = self._seesaw.ask("prefill", **batch, leaving=leaving)
            self.measured.note("prefill.with" if leaving else "prefill.without", figures)
        self._seesaw.ask("switch", to="decode")

    def _arrivals(self, number: int) -> None:
        for extras in _turns(("load", "in_place", "none"), number):
            self.measured.note(f"arrival.{extras}", self._decode(extras))

    def _decode(self, extras: str) -> dict[str, Any]:
        return _ask_decode(
            self._seesaw, self.measured.workload, extras=extras, every_s=self._every_s
        )

    def _note_memcpy(self, role: str, name: str = "memcpy") -> None:
        """Time a memcpy on all ranks at once. The slowest rank counts, as in a transition."""
        times = 1 if name == "idle_memcpy" else _TRANSITIONS
        several = [self._seesaw.ask("memcpy", role=role) for _ in range(times)]
        values = {
            "s": median(max(s for _, s in pairs) for pairs in several),
            "bytes": sum(n for n, _ in several[0]),
        }
        self.measured.note(f"{name}.{role}", values)


def _resident_round(resident: Subject, measured: Measured) -> None:
    for to, parts in _ask_transitions(resident, measured.workload).items():
        measured.note(f"resident.{to}", parts)


def _steady_round(subjects: dict[str, Subject], measured: Measured, number: int) -> None:
    for kind in _turns(tuple(subjects), number):
        measured.note(f"steady.{kind}", _ask_decode(subjects[kind], measured.workload))
        time.sleep(_CALM_S)


def _ask_transitions(subject: Subject, work: Workload) -> dict[str, dict[str, float]]:
    parts: dict[str, dict[str, float]] = subject.ask(
        "transitions",
        batch=work.batch,
        context=work.context,
        waiting=work.waiting,
        waiting_prompt=work.waiting_prompt,
    )
    return parts


def _ask_decode(subject: Subject, work: Workload, **arguments: Any) -> dict[str, Any]:
    figures: dict[str, Any] = subject.ask(
        "decode", batch=work.batch, context=work.context, tokens=work.decoded, **arguments
    )
    return figures


def _turns(names: tuple[Any, ...], number: int) -> tuple[Any, ...]:
    """Return the names in the order of a round: another one goes first each time."""
    first = number % len(names)
    return names[first:] + names[:first]


def _blank(measured: Measured) -> dict[str, Any]:
    """Return the fields of a copy without figures, whose results are discarded."""
    names = ("workload", "model", "model_bytes", "machine")
    return {name: getattr(measured, name) for name in names}


def _environment(kind: str) -> dict[str, str]:
    """Return a subject's environment: a worker's for Seesaw, none of Seesaw's for plain vLLM."""
    if kind in ("seesaw", "resident"):
        return dict(os.environ)
    plain = plain_environment(DECODE)
    plain.pop("TORCHDYNAMO_DISABLE", None)  # the worker does not set it either
    return plain


def _check_memory(model: ModelFacts, workload: Workload) -> None:
    """Refuse a model that is too large for all subjects at once. Raises: CapacityError.

    The copies of the weights are the arenas, two in resident engines and two in plain ones. The
    host copy does not count, since the kernel may drop it.
    """
    tokens = 4 * workload.pool_tokens + 2 * (workload.prefill_pool_tokens + workload.buffer_tokens)
    weights = _COPIES_OF_WEIGHTS * model.weights_bytes
    wanted = weights + tokens * model.token_bytes + len(_SUBJECTS) * _PROCESS_TREE_BYTES
    available = psutil.virtual_memory().available
    if available < wanted:
        raise CapacityError(
            f"the benchmark runs four servers side by side and takes about {wanted / GIB:.1f} GiB "
            f"on this model, but {available / GIB:.1f} GiB are available; give a smaller --model"
        )
