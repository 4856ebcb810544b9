"""Specs of resources, and what an apiserver answers to them."""

from typing import Any

from support.control_plane.apiserver import ApiServer, Json

SPEC: Json = {"model": {"uri": "org/model"}}
PAIR = {"prefill": {"pipeline": 2}, "decode": {"tensor": 2}}
INSTANCES: Json = {"mode": "Elastic", "elastic": {"instances": 2}}
TWO: Json = {"accelerator": {"count": 2}}


def added(container: str, component: str = "engine", **more: Any) -> Json:
    """A resource whose pods get that much more in one of their containers."""
    return of_pod("containers", [{"name": container} | more], component)


def of_pod(field: str, value: Any, component: str = "engine") -> Json:
    return {component: {"podTemplate": {"spec": {field: value}}}}


async def try_to_create(server: ApiServer, spec: Json, name: str = "llama") -> Json:
    body = {
        "apiVersion": "seesaw.dev/v1alpha1",
        "kind": "SeesawDeployment",
        "metadata": {"name": name},
        "spec": spec,
    }
    where = "/apis/seesaw.dev/v1alpha1/namespaces/default/seesawdeployments"
    return await server.create(f"{where}?dryRun=All&fieldValidation=Strict", body)
