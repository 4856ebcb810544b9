"""The health check that docs/kubernetes.md gives for Argo CD, in the Lua that Argo CD runs."""

import datetime as dt
import json
import re
from pathlib import Path

import pytest

from seesaw_operator.api.spec import Spec
from seesaw_operator.api.status import Status
from seesaw_operator.components.all import COMPONENTS
from seesaw_operator.names import Owner
from seesaw_operator.status.condition_state import Cause
from seesaw_operator.status.observed import Desired, Observed, ObservedComponent
from seesaw_operator.status.resource_status import StatusContext, rejected, status_of
from support.chart_release.helm import Json
from support.cluster_client.kubectl import ROOT, run

OWNER = Owner(name="llama", namespace="team", uid="1")
NOW, GENERATION = "2026-01-01T00:00:00Z", 7
SPEC: Json = {"model": {"uri": "org/m"}, "accelerator": {"count": 2}}
DONE: Json = {
    "metadata": {"name": "llama", "uid": "2", "generation": 1},
    "status": {"observedGeneration": 1, "replicas": 0},
}


def told(*pods: Json, old: Status | None = None, now: str = NOW, replicas: int = 1) -> Status:
    found = Observed(
        components={
            each.name: ObservedComponent(
                kind=each.kind, body=DONE, pods=pods if each.name == "worker" else ()
            )
            for each in COMPONENTS
        }
    )
    spec = Spec.model_validate(SPEC | {"replicas": replicas})
    return status_of(context(old or Status(), now), spec, found)


def context(old: Status, now: str) -> StatusContext:
    return StatusContext(
        components=COMPONENTS,
        owner=OWNER,
        previous=old,
        generation=GENERATION,
        now=dt.datetime.fromisoformat(now),
        progress_deadline_s=600,
    )


CRASHED: Json = {
    "metadata": {"name": "a"},
    "status": {
        "containerStatuses": [
            {
                "name": "engine",
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"exitCode": 1, "message": "boom", "reason": "Error"}},
            }
        ]
    },
}
STARTING = told()
STALLED = told(old=STARTING, now="2026-01-01T01:00:00Z")
REFUSED = rejected(
    context(Status(), NOW),
    Desired(num_pods={"worker": 1, "router": 1}),
    Observed(components={each.name: ObservedComponent(kind=each.kind) for each in COMPONENTS}),
    Cause(reason="InvalidSpec", message="No such field."),
)


@pytest.mark.parametrize(
    ("status", "health", "says"),
    [
        pytest.param(None, "Progressing", "The operator has not seen this yet", id="new"),
        pytest.param(STARTING, "Progressing", "", id="starting"),
        pytest.param(told(replicas=0), "Healthy", "", id="as it should be"),
        pytest.param(told(CRASHED), "Degraded", "boom", id="in trouble"),
        pytest.param(STALLED, "Degraded", "", id="stalled"),
        pytest.param(REFUSED, "Degraded", "No such field.", id="refused"),
        pytest.param(
            told(replicas=0).model_copy(update={"observed_generation": GENERATION - 1}),
            "Progressing",
            "The operator has not seen this yet",
            id="of an older spec",
        ),
    ],
)
def test_argo_cd_reads_the_conditions(
    status: Status | None, health: str, says: str, tmp_path: Path
) -> None:
    docs = (ROOT / "docs/kubernetes.md").read_text()
    (check,) = re.findall(r"```lua\n(.*?)```", docs, re.DOTALL)
    body: Json = {"metadata": {"generation": GENERATION}}
    if status is not None:
        body["status"] = status.model_dump(by_alias=True, exclude_none=True, mode="json")
    script = tmp_path / "check.lua"
    script.write_text(
        f"obj = {as_lua(body)}\nlocal function health()\n{check}end\n"
        "local found = health()\nprint(found.status)\nprint(found.message)\n"
    )
    word, _, message = run("glua", str(script)).partition("\n")
    assert word == health
    assert says in message


def as_lua(value: object) -> str:
    """A JSON value as a Lua expression."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"[{as_lua(k)}] = {as_lua(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "{" + ", ".join(map(as_lua, value)) + "}"
    return json.dumps(value)
