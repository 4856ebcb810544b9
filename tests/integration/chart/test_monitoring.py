"""Alerts and dashboard ask for metrics that there are, in PromQL that Prometheus understands."""

import importlib.util
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

from seesaw_operator.health import Metrics as OperatorMetrics
from seesaw_operator.names import ROUTER, WORKER, Owner
from seesaw_router.metrics import Metrics as RouterMetrics
from seesaw_worker.modes.elastic.telemetry import Metrics as ElasticMetrics
from seesaw_worker.modes.resharding.telemetry import Metrics as ReshardingMetrics
from seesaw_worker.server.telemetry import Metrics as WorkerMetrics
from support.chart_release.helm import CHART, EVERYTHING, PROMTOOL, Json, objects, rendered
from support.cluster_client.kubectl import SYSTEM

RULES = CHART / "files/rules.yaml"
SITUATIONS = Path(__file__).parent / "situations.yaml"
NAME = re.compile(r"\b(?:seesaw_\w+|vllm:\w+)")
LABELS = {"seesaw_dev_deployment"}
needs_promtool = pytest.mark.skipif(
    not PROMTOOL.exists(), reason="`make chart-tools` builds promtool (Go)"
)


def alerts() -> Iterator[Json]:
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        yield from group["rules"]


def panels() -> Iterator[Json]:
    dashboard = json.loads((CHART / "files/dashboard.json").read_text())
    yield from (panel for panel in dashboard["panels"] if panel["type"] != "row")


def queries() -> Iterator[str]:
    yield from (alert["expr"] for alert in alerts())
    yield from (target["expr"] for panel in panels() for target in panel["targets"])


def real_names() -> set[str]:
    """The series that operator, router and worker expose, and those of vLLM's own metrics."""
    found: set[str] = set()
    of_worker = (WorkerMetrics, ReshardingMetrics, ElasticMetrics)
    for metrics in (OperatorMetrics, RouterMetrics, *of_worker):
        registry = CollectorRegistry()
        metrics(registry)
        for family in registry.collect():
            ends = {
                "counter": ("_total",),
                "histogram": ("_bucket", "_sum", "_count"),
            }.get(family.type, ("",))
            found |= {family.name + end for end in ends}
    spec = importlib.util.find_spec("vllm")
    assert spec is not None
    assert spec.submodule_search_locations
    source = Path(spec.submodule_search_locations[0]) / "v1/metrics/loggers.py"
    for name in re.findall(r'"(vllm:\w+)"', source.read_text()):
        found |= {name, f"{name}_total"}
    return found


def test_every_metric_that_is_asked_for_exists() -> None:
    asked = {name for query in queries() for name in NAME.findall(query)} - LABELS
    assert asked - real_names() == set()


def test_every_metric_of_routers_operator_and_elastic_instances_is_shown() -> None:
    asked = {name for query in queries() for name in NAME.findall(query)}
    shown = {re.sub("_(total|bucket|sum|count)$", "", name) for name in asked}
    registry = CollectorRegistry()
    OperatorMetrics(registry)
    RouterMetrics(registry)
    ElasticMetrics(registry)
    told_elsewhere = {"seesaw_router_worker_failures"}  # an alert's text sends people there
    assert {family.name for family in registry.collect()} - shown == told_elsewhere


def test_the_alerts_that_may_be_left_out_are_those_that_there_are() -> None:
    names = [alert["alert"] for alert in alerts()]
    rendered({"monitoring": {"rules": {"disabled": names}}})
    told = rf'"SeesawNope": correct the name to one of {", ".join(names)}'
    with pytest.raises(AssertionError, match=told):
        rendered({"monitoring": {"rules": {"disabled": [*names, "SeesawNope"]}}})


@needs_promtool
def test_prometheus_understands_every_query(tmp_path: Path) -> None:
    shown = [q.replace("$__rate_interval", "5m") for q in queries()]
    rules = [{"record": f"shown:{i}", "expr": query} for i, query in enumerate(shown)]
    text = yaml.safe_dump({"groups": [{"name": "shown", "rules": rules}]})
    (tmp_path / "shown.yaml").write_text(text)
    promtool("check", "rules", str(tmp_path / "shown.yaml"))
    promtool("check", "rules", str(RULES))


@needs_promtool
def test_each_alert_comes_when_it_should_and_not_before() -> None:
    told = yaml.safe_load(SITUATIONS.read_text())
    firing = told["tests"][-1]["promql_expr_test"][0]["exp_samples"]
    tested = {re.findall('"(.*)"', sample["labels"])[0] for sample in firing}
    assert tested == {alert["alert"] for alert in alerts()}
    promtool("test", "rules", str(SITUATIONS))


def promtool(*command: str) -> None:
    ended = subprocess.run([PROMTOOL, *command], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_an_alert_that_is_not_wanted_is_left_out() -> None:
    rule = objects(rendered(EVERYTHING))[f"PrometheusRule {SYSTEM}/seesaw"]
    names = {r["alert"] for group in rule["spec"]["groups"] for r in group["rules"]}
    assert {alert["alert"] for alert in alerts()} - names == {"SeesawLongWaits"}


@pytest.mark.parametrize("component", [ROUTER, WORKER])
def test_monitors_and_policies_select_the_pods_that_the_operator_makes(component: str) -> None:
    labels = Owner(name="llama", namespace="one", uid="u").labels(component)
    found = objects(rendered(EVERYTHING))
    monitor = found[f"PodMonitor {SYSTEM}/seesaw-{component}s"]["spec"]
    policy = found[f"NetworkPolicy one/seesaw-{component}s"]["spec"]
    for selector in (monitor["selector"], policy["podSelector"]):
        assert selector["matchLabels"].items() <= labels.items()
    assert set(monitor["podTargetLabels"]) <= set(labels)
    ports = {"router": ("http",), "worker": ("engine-0", "engine-11")}[component]
    keep = monitor["podMetricsEndpoints"][0]["relabelings"][0]
    assert all(re.fullmatch(keep["regex"], port) for port in ports)
