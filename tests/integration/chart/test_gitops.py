"""What is applied again and again, as by Argo CD, Flux or a pipeline: nothing is left to do."""

from pathlib import Path

import pytest
import yaml

from support.chart_release.helm import EVERYTHING, Json, kubectl, rendered
from support.cluster_client.kubectl import ROOT
from support.control_plane.apiserver import ApiServer
from support.control_plane.processes import until
from support.control_plane.resources import CONVERGE_S, SPEC, converged, deploy, operated, resource

EXAMPLES = sorted((ROOT / "manifests/examples").glob("*.yaml"))
# By how kubectl applies. A client of the old way keeps what it applied in an annotation.
WAYS = pytest.mark.parametrize("way", [["--server-side=false"], ["--server-side"]], ids=" ".join)


@WAYS
@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["default", "everything"])
def test_a_chart_that_is_applied_twice_leaves_no_difference(
    values: Json, way: list[str], apiserver: ApiServer
) -> None:
    body = rendered(values)
    try:
        kubectl(apiserver, "apply", *way, body=body)
        before = generations(apiserver, body)
        kubectl(apiserver, "apply", *way, body=body)
        assert kubectl(apiserver, "diff", *way, body=body) == ""  # and no exit code of 1
        assert generations(apiserver, body) == before
    finally:
        kubectl(apiserver, "delete", "--ignore-not-found", body=body)


@WAYS
async def test_a_resource_that_is_applied_twice_leaves_no_difference(
    way: list[str], defined: ApiServer, tmp_path: Path
) -> None:
    """The operator writes a status, and nothing into what was applied."""
    resources = [body for body in loaded(EXAMPLES) if body["kind"] == "SeesawDeployment"]
    paths = [resource("one", body["metadata"]["name"]) for body in resources]
    text = yaml.safe_dump_all(resources)
    to = (*way, "--namespace=one")
    async with operated(defined, "one", tmp_path) as (_, operator):
        kubectl(defined, "apply", *to, body=text)

        async def are_seen() -> bool:
            found = [await defined.get(path) for path in paths]
            return all("observedGeneration" in body.get("status", {}) for body in found)

        await until(are_seen, CONVERGE_S, lambda: operator.log.read_text()[-3000:])
        kubectl(defined, "apply", *to, body=text)
        assert kubectl(defined, "diff", *to, body=text) == ""
        found = [await defined.get(path) for path in paths]
        assert {body["metadata"]["generation"] for body in found} == {1}


async def test_an_operator_that_is_there_before_its_resources_definition_waits_for_it(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    definition = (ROOT / "manifests/base/crd.yaml").read_text()
    async with operated(apiserver, "two", tmp_path) as (_, operator):

        async def waits() -> bool:
            return "waiting for the CustomResourceDefinition" in operator.log.read_text()

        await until(waits, CONVERGE_S, lambda: operator.log.read_text()[-3000:])
        kubectl(apiserver, "apply", "--server-side", body=definition)
        try:
            apiserver.kubectl("wait", "crd", "--all", "--for=condition=Established")
            await deploy(apiserver, "two", SPEC)
            await converged(apiserver, "two", operator)
        finally:
            kubectl(apiserver, "delete", body=definition)


def loaded(files: list[Path]) -> list[Json]:
    return [body for file in files for body in yaml.safe_load_all(file.read_text())]


def generations(server: ApiServer, body: str) -> list[tuple[str, int]]:
    """What is stored of what was applied, by its id."""
    found = yaml.safe_load(kubectl(server, "get", "--output=yaml", body=body))["items"]
    return [(b["metadata"]["uid"], b["metadata"].get("generation", 0)) for b in found]
