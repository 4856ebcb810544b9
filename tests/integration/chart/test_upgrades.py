"""An upgrade from charts of the past, with default values: what it changes and what it leaves."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.chart_release.helm import CHART, Json, chart_of, objects, on_server, rendered
from support.cluster_client.kubectl import SYSTEM
from support.control_plane.apiserver import ApiServer

OPERATOR = f"Deployment {SYSTEM}/seesaw"
# By the first commit of a chart: what the operator is told that it was not told then.
PAST: dict[str, set[str]] = {"bcfca99": {"--progress-s=1800"}, "e61af1f": set()}
KNOWN = pytest.mark.parametrize("commit", PAST)
# What operators write into the pods of routers and workers: any other value would replace those.
FOR_PODS = ("--worker-", "--router-", "--image-pull-", "--pre-stop-s", "--drain-s", "--start-s")


@KNOWN
def test_no_name_and_no_selector_changes(commit: str, tmp_path: Path) -> None:
    before, after = objects(rendered(None, chart_of(commit, tmp_path))), objects(rendered())
    assert set(before) - set(after) == set()
    for name, body in before.items():
        for field in ("selector", "serviceName", "clusterIP", "type"):
            was = body.get("spec", {}).get(field)
            assert after[name].get("spec", {}).get(field) == was, (name, field)
        assert after[name].get("roleRef") == body.get("roleRef"), name


@KNOWN
def test_only_what_is_new_for_the_operator_changes_its_pods(commit: str, tmp_path: Path) -> None:
    before, after = (
        objects(rendered(None, chart))[OPERATOR]["spec"]
        for chart in (chart_of(commit, tmp_path), CHART)
    )
    was, now = (
        set(spec["template"]["spec"]["containers"][0].pop("args")) for spec in (before, after)
    )
    assert (was - now, now - was) == (set(), PAST[commit])
    assert after == before
    assert not [flag for flag in was ^ now if flag.startswith(FOR_PODS)]


@pytest.fixture
def released(commit: str, apiserver: ApiServer, tmp_path: Path) -> Iterator[ApiServer]:
    """That chart, installed."""
    on_server(apiserver, "install", "seesaw", str(chart_of(commit, tmp_path)))
    yield apiserver
    on_server(apiserver, "uninstall", "seesaw")


@KNOWN
@pytest.mark.parametrize("values", ["--reset-values", "--reset-then-reuse-values"])
async def test_helm_upgrades_it_and_goes_back(
    commit: str, released: ApiServer, values: str
) -> None:
    async def generation() -> int:
        path = f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/seesaw"
        found: Json = (await released.get(path))["metadata"]
        return int(found["generation"])

    before = await generation()
    on_server(released, "upgrade", "seesaw", str(CHART), values)
    assert await generation() - before == bool(PAST[commit])
    on_server(released, "rollback", "seesaw")


def test_a_release_of_another_name_takes_the_definition_over(apiserver: ApiServer) -> None:
    on_server(apiserver, "install", "seesaw", str(CHART))
    on_server(apiserver, "uninstall", "seesaw")
    with pytest.raises(AssertionError, match="invalid ownership metadata"):
        on_server(apiserver, "install", "other", str(CHART))
    on_server(apiserver, "install", "other", str(CHART), "--take-ownership")
    on_server(apiserver, "uninstall", "other")
    on_server(apiserver, "install", "seesaw", str(CHART), "--take-ownership")
    on_server(apiserver, "uninstall", "seesaw")
