"""Prints the reference of flags, metrics, routes and exit codes as Markdown.

``make docs`` writes it to ``docs/reference-flags.md``; a test keeps that file up to date. All of
it comes from the tables that worker and router themselves run on.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import get_type_hints

from prometheus_client import CollectorRegistry

import seesaw_worker.upstream.log_filters  # noqa: F401 - before anything that imports torch
from seesaw_bench.paper import command as paper
from seesaw_cli import plan
from seesaw_cli.calibrate import command as calibrate
from seesaw_cli.simulate import command as simulate
from seesaw_core.messages import (
    BufferState,
    ElasticGroup,
    ElasticState,
    FinishedTotals,
    GroupSpan,
    PathTotals,
    PlanSummary,
    Proposal,
    Rejection,
    RequestSpan,
    ReshardingState,
    StaticState,
    TimelineEvent,
    TransitionEvent,
    WaveEvent,
    WorkerState,
)
from seesaw_core.planner.profiles import Profile
from seesaw_core.router_messages import RoutedWorker, RouterState
from seesaw_operator.flags import parser as operator_parser
from seesaw_operator.health import Metrics as OperatorMetrics
from seesaw_router.flags import parser
from seesaw_router.metrics import Metrics as RouterMetrics
from seesaw_worker.modes.elastic.telemetry import Metrics as ElasticMetrics
from seesaw_worker.modes.resharding.telemetry import Metrics as ReshardingMetrics
from seesaw_worker.server.flags import FLAGS
from seesaw_worker.server.telemetry import Metrics as WorkerMetrics
from seesaw_worker.settings.flag import Flag

PLANNERS = {
    "plan": plan.parser,
    "simulate": simulate.parser,
    "calibrate": calibrate.parser,
    "paper": paper.parser,
}

_HEAD = """\
# Reference: flags, metrics, routes and exit codes

<!-- Made by `make docs` from the code. Edit the code, not this file. -->
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One HTTP route of ours, or one of vLLM's that we answer before vLLM can."""

    method: str
    path: str
    answers: str


ROUTES = (
    Route(
        method="GET",
        path="/health",
        answers="200 while the worker serves; 503 while it loads, while an engine stands still and "
        "once it is broken.",
    ),
    Route(
        method="GET",
        path="/metrics",
        answers="Prometheus metrics: vLLM's own of the decode engine (`vllm:…`), and ours.",
    ),
    Route(
        method="GET",
        path="/seesaw/state",
        answers="The worker at this moment, as JSON: stage, phase, layouts, prompts by stage, "
        "transitions, KV buffer, totals by path, the plan. Answers while loading, too.",
    ),
    Route(
        method="GET",
        path="/seesaw/events",
        answers="Server-sent events, the state first: `transition` and `wave` as they happen, "
        "`state` when the stage changes and after each quiet second.",
    ),
)

ROUTER_ROUTES = (
    Route(
        method="GET",
        path="/health",
        answers="200 while the router runs and none of its tasks has failed.",
    ),
    Route(method="GET", path="/ready", answers="200 while some worker serves, else 503."),
    Route(method="GET", path="/metrics", answers="Prometheus metrics."),
    Route(
        method="GET",
        path="/seesaw/state",
        answers="The queue, the last step with its reason, and the workers, as JSON: a "
        "`RouterState`.",
    ),
)

MESSAGES: tuple[type, ...] = (
    WorkerState,
    ReshardingState,
    StaticState,
    ElasticState,
    ElasticGroup,
    BufferState,
    PathTotals,
    FinishedTotals,
    PlanSummary,
    Rejection,
    Proposal,
    TransitionEvent,
    WaveEvent,
    TimelineEvent,
    GroupSpan,
    RequestSpan,
)

ROUTER_MESSAGES: tuple[type, ...] = (RouterState, RoutedWorker)

EXIT_CODES = (
    (0, "SIGTERM or SIGINT came, and running requests were finished."),
    (1, "The worker broke: a process of an engine died, or an engine could not start."),
    (2, "An input cannot work; nothing was loaded. The last line names the value and the fix."),
    (130, "Interrupted before the server had started."),
)


def reference() -> str:
    """The whole document."""
    return "\n".join(
        [
            _HEAD,
            "## Flags of `seesaw worker`",
            "",
            "Every flag of `vllm serve` works as well, but for those that the worker refuses by",
            "name because they do not work with re-sharding.",
            "",
            *table(("Flag", "Default", "Meaning"), map(_flag_row, FLAGS)),
            "",
            "## Metrics of a worker",
            "",
            "Beside vLLM's own, at `/metrics`. Counters end in `_total` there, histograms in",
            "`_bucket`, `_sum` and `_count`.",
            "",
            *table(
                ("Metric", "Kind", "Meaning"),
                _metric_rows(WorkerMetrics, ReshardingMetrics, ElasticMetrics),
            ),
            "",
            "## Routes of a worker",
            "",
            "Beside those of vLLM's OpenAI-compatible server.",
            "",
            *table(("Route", "Answers"), ((f"`{r.method} {r.path}`", r.answers) for r in ROUTES)),
            "",
            "## Messages of a worker (JSON)",
            "",
            "`/seesaw/state` answers with a `WorkerState`; `/seesaw/events` sends `state`,",
            "`transition` (a `TransitionEvent`), `wave` (a `WaveEvent`) and `timeline` (a",
            "`TimelineEvent`).",
            "",
            *(line for message in MESSAGES for line in _fields(message)),
            "## Exit codes of a worker",
            "",
            *table(("Code", "Meaning"), ((str(code), meaning) for code, meaning in EXIT_CODES)),
            "",
            "## Flags of `seesaw router`",
            "",
            *table(("Flag", "Meaning"), _rows_of(parser())),
            "",
            "## Flags of `seesaw operator`",
            "",
            *table(("Flag", "Meaning"), _rows_of(operator_parser())),
            "",
            "## Metrics of an operator",
            "",
            *table(("Metric", "Kind", "Meaning"), _metric_rows(OperatorMetrics)),
            "",
            "## Metrics of a router",
            "",
            *table(("Metric", "Kind", "Meaning"), _metric_rows(RouterMetrics)),
            "",
            "## Routes of a router",
            "",
            "Beside those of the OpenAI API, which it passes on.",
            "",
            *table(
                ("Route", "Answers"),
                ((f"`{r.method} {r.path}`", r.answers) for r in ROUTER_ROUTES),
            ),
            "",
            "## What a router reports as JSON",
            "",
            *(line for message in ROUTER_MESSAGES for line in _fields(message)),
            *_planning(),
        ]
    )


def _planning() -> Iterable[str]:
    """The commands that choose layouts, and the profile that they read."""
    for name, made in PLANNERS.items():
        yield from (f"## Flags of `seesaw {name}`", "")
        yield from (*table(("Flag", "Meaning"), _rows_of(made())), "")
    yield from ("## A profile", "")
    yield "What `seesaw calibrate` fits, as JSON; a field that is left out keeps its default."
    yield ""
    yield (
        "*Kernels* are those measured in NVIDIA's "
        "[aiconfigurator-core](https://pypi.org/project/aiconfigurator-core/) 0.12: vLLM 0.14 to "
        "0.24 and NCCL 2.27 to 2.29 on L40S, A100, H100 and H200."
    )
    rows = [
        (f"`{f.name}`", f"`{f.default}`", f.metadata["doc"], f.metadata["source"])
        for f in fields(Profile)
        if f.metadata
    ]
    yield from ("", *table(("Field", "Default", "Meaning", "Source of the default"), rows))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def _flag_row(flag: Flag) -> tuple[str, str, str]:
    shown = "see there" if flag.default is None else f"`{shown_value(flag.default)}`"
    choices = f" One of {', '.join(f'`{c}`' for c in flag.choices)}." if flag.choices else ""
    negation = f", `--no-{flag.name[2:]}`" if flag.parse is bool else ""
    return f"`{flag.name}`{negation}", shown, flag.help + choices


def shown_value(value: object) -> str:
    """A default as one would write it on the command line."""
    return json.dumps(value) if isinstance(value, bool | int | float) else str(value)


def _fields(message: type) -> list[str]:
    hints = get_type_hints(message, include_extras=True)
    rows = [(f"`{name}`", hint.__metadata__[0]) for name, hint in hints.items()]
    about = (message.__doc__ or "").partition("\n")[0].replace("``", "`")
    return [f"### `{message.__name__}`", "", about, "", *table(("Field", "Meaning"), rows), ""]


def _rows_of(made: argparse.ArgumentParser) -> list[tuple[str, str]]:
    shown = [a for a in made._actions if a.dest != "help"]  # noqa: SLF001 - argparse has no other way
    return [
        (
            ", ".join(f"`{name}`" for name in a.option_strings),
            (a.help or "") % {"default": a.default},
        )
        for a in shown
    ]


def _metric_rows(*metrics: Callable[[CollectorRegistry], object]) -> list[tuple[str, str, str]]:
    registry = CollectorRegistry()
    for register in metrics:
        register(registry)
    families = registry.collect()
    return [(f"`{f.name}`", f.type, f.documentation) for f in families]


if __name__ == "__main__":
    sys.stdout.write(reference() + "\n")
