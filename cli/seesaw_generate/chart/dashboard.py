"""Grafana's dashboard of operator, routers and workers, as the chart ships it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_WIDTH, _HEIGHT, _PER_ROW = 8, 8, 3
_DEPLOYMENT = "seesaw_dev_deployment"  # the pods' label, as the PodMonitors keep it
_OF = f'namespace=~"$namespace", {_DEPLOYMENT}=~"$deployment"'
_BY = f"namespace, {_DEPLOYMENT}"
_FREE = f'seesaw_elastic_kv_tokens{{{_OF}, state="free"}}'
_NAME = f"{{{{namespace}}}}/{{{{{_DEPLOYMENT}}}}}"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One graph: what it answers, and the queries with their legends.

    unit: as Grafana names it.
    """

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"


def _by(more: str) -> str:
    return f"{_BY}, {more}" if more else _BY


def _sum(metric: str, more: str = "") -> str:
    return f"sum by ({_by(more)}) ({metric}{{{_OF}}})"


def _rate(metric: str, more: str = "") -> str:
    return f"sum by ({_by(more)}) (rate({metric}{{{_OF}}}[$__rate_interval]))"


def _mean(metric: str, more: str = "") -> str:
    return f"{_rate(metric + '_sum', more)} / {_rate(metric + '_count', more)}"


def _operators(metric: str, more: str) -> str:
    return f"sum by (namespace, job, {more}) (rate({metric}[$__rate_interval]))"


def _quantile(share: float, metric: str) -> str:
    return f"histogram_quantile({share}, {_rate(metric + '_bucket', 'le')})"


ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "Requests",
        (
            Panel(
                title="Requests by status",
                queries=((_rate("seesaw_router_requests_total", "status"), _NAME + " {{status}}"),),
                unit="reqps",
            ),
            Panel(
                title="Requests that run and wait",
                queries=(
                    (_sum("seesaw_router_running_requests"), f"{_NAME} in the router"),
                    (_sum("seesaw_router_queued_requests"), f"{_NAME} waiting"),
                ),
            ),
            Panel(
                title="Wait for a worker",
                queries=(
                    (_quantile(0.5, "seesaw_router_queue_seconds"), f"{_NAME} p50"),
                    (_quantile(0.95, "seesaw_router_queue_seconds"), f"{_NAME} p95"),
                ),
                unit="s",
            ),
            Panel(
                title="Refused, broken off and tried again",
                queries=(
                    (_rate("seesaw_router_refused_total"), f"{_NAME} queue full"),
                    (_rate("seesaw_router_unserved_total"), f"{_NAME} no worker"),
                    (_rate("seesaw_router_broken_answers_total"), f"{_NAME} broken off"),
                    (_rate("seesaw_router_untaken_answers_total"), f"{_NAME} not taken"),
                    (_rate("seesaw_router_retries_total"), f"{_NAME} tried again"),
                ),
                unit="reqps",
            ),
            Panel(
                title="Workers by whether they serve",
                queries=(
                    (
                        f"max by ({_BY}, serving) (seesaw_router_workers{{{_OF}}})",
                        f"{_NAME} serving={{{{serving}}}}",
                    ),
                    (
                        f"max by ({_BY}) (seesaw_router_ejected_workers{{{_OF}}})",
                        f"{_NAME} ejected",
                    ),
                ),
            ),
            Panel(
                title="Prompts sent to workers, by reason",
                queries=(
                    (
                        _rate("seesaw_router_released_prompts_total", "reason"),
                        _NAME + " {{reason}}",
                    ),
                ),
            ),
            Panel(
                title="Pools of elastic workers, as their router sees them",
                queries=(
                    (
                        f"max by ({_BY}, worker, state) (seesaw_router_elastic_tokens{{{_OF}}})",
                        "{{worker}} {{state}}",
                    ),
                ),
            ),
        ),
    ),
    (
        "Workers",
        (
            Panel(
                title="Tokens generated",
                queries=((_rate("vllm:generation_tokens_total"), f"{_NAME} tokens/s"),),
            ),
            Panel(
                title="Prompt tokens by path",
                queries=((_rate("seesaw_prompt_tokens_total", "path"), _NAME + " {{path}}"),),
            ),
            Panel(
                title="Time in each phase",
                queries=((_rate("seesaw_phase_seconds_total", "phase"), _NAME + " {{phase}}"),),
            ),
            Panel(
                title="A transition by part, mean",
                queries=((_mean("seesaw_transition_seconds", "part"), _NAME + " {{part}}"),),
                unit="s",
            ),
            Panel(
                title="Transitions",
                queries=((_rate("seesaw_transitions_total", "to"), _NAME + " to {{to}}"),),
                unit="ops",
            ),
            Panel(
                title="KV buffer",
                queries=((_sum("seesaw_kv_buffer_bytes", "state"), _NAME + " {{state}}"),),
                unit="bytes",
            ),
            Panel(
                title="Prompts of a wave, mean",
                queries=((_mean("seesaw_wave_prompts"), _NAME),),
            ),
            Panel(
                title="Prompts that wait for a wave",
                queries=((_sum("seesaw_waiting_prompts"), _NAME),),
            ),
            Panel(
                title="The longest step at this moment",
                queries=(
                    (f"max by (namespace, pod) (seesaw_step_age_seconds{{{_OF}}})", "{{pod}}"),
                ),
                unit="s",
            ),
        ),
    ),
    (
        "Elastic instances",
        (
            Panel(
                title="Instances by what they do",
                queries=((_sum("seesaw_elastic_instances", "state"), _NAME + " {{state}}"),),
            ),
            Panel(
                title="Iterations by number of instances",
                queries=(
                    (
                        _rate("seesaw_elastic_iterations_total", "kind, degree"),
                        _NAME + " {{kind}} by {{degree}}",
                    ),
                ),
                unit="ops",
            ),
            Panel(
                title="Tokens for which each instance has room",
                queries=(
                    (
                        f"sum by (namespace, pod, number) ({_FREE})",
                        "{{pod}} instance {{number}}",
                    ),
                ),
            ),
            Panel(
                title="Started again, and failed iterations",
                queries=(
                    (_rate("seesaw_elastic_requests_total", "why"), _NAME + " {{why}}"),
                    (_rate("seesaw_elastic_failed_iterations_total"), f"{_NAME} failed"),
                ),
                unit="ops",
            ),
            Panel(
                title="Tokens whose KV moved",
                queries=((_rate("seesaw_elastic_migrated_tokens_total"), f"{_NAME} tokens/s"),),
            ),
        ),
    ),
    (
        "Operator",
        (
            Panel(
                title="Operators that lead",
                queries=(("sum by (namespace, job) (seesaw_operator_leads)", "{{namespace}}"),),
            ),
            Panel(
                title="Reconciles by result",
                queries=(
                    (
                        _operators("seesaw_operator_reconcile_seconds_count", "result"),
                        "{{namespace}} {{result}}",
                    ),
                ),
                unit="ops",
            ),
            Panel(
                title="Writes to the Kubernetes API",
                queries=(
                    (
                        _operators("seesaw_operator_api_writes_total", "kind"),
                        "{{namespace}} {{kind}}",
                    ),
                ),
                unit="ops",
            ),
        ),
    ),
)


def dashboard_json() -> str:
    """The dashboard as Grafana imports it."""
    made = {
        "uid": "seesaw",
        "title": "Seesaw",
        "tags": ["seesaw", "llm"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": list(_variables())},
        "panels": list(_panels()),
    }
    return json.dumps(made, indent=1) + "\n"


def _variables() -> Iterator[Json]:
    yield {
        "name": "datasource",
        "type": "datasource",
        "query": "prometheus",
        "label": "Data source",
    }
    every = {"includeAll": True, "multi": True, "allValue": ".*", "refresh": 2, "type": "query"}
    source = {"datasource": {"type": "prometheus", "uid": "${datasource}"}}
    for name, query in (
        ("namespace", "label_values(seesaw_router_workers, namespace)"),
        (
            "deployment",
            f'label_values(seesaw_router_workers{{namespace=~"$namespace"}}, {_DEPLOYMENT})',
        ),
    ):
        current = {"text": "All", "value": "$__all"}
        yield {"name": name, "query": query, "current": current} | every | source


def _panels() -> Iterator[Json]:
    top = 0
    for title, panels in ROWS:
        at = {"x": 0, "y": top, "w": _WIDTH * _PER_ROW, "h": 1}
        yield {"type": "row", "title": title, "collapsed": False, "gridPos": at, "panels": []}
        top += 1
        for index, panel in enumerate(panels):
            line, column = divmod(index, _PER_ROW)
            at = {
                "x": column * _WIDTH,
                "y": top + line * _HEIGHT,
                "w": _WIDTH,
                "h": _HEIGHT,
            }
            yield _panel(panel, at)
        top += -(-len(panels) // _PER_ROW) * _HEIGHT


def _panel(panel: Panel, at: dict[str, int]) -> Json:
    return {
        "type": "timeseries",
        "title": panel.title,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "gridPos": at,
        "targets": [
            {"refId": chr(ord("A") + index), "expr": query, "legendFormat": legend}
            for index, (query, legend) in enumerate(panel.queries)
        ],
    }
