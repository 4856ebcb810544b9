"""Everything that keeps a resource's pods from serving, the worst first. Pure."""

from collections.abc import Iterable, Sequence

from seesaw_operator.status import pod_troubles, pods
from seesaw_operator.status.component import Component
from seesaw_operator.status.condition_state import Cause
from seesaw_operator.status.observed import Desired, Observed, ObservedComponent
from seesaw_operator.text import sanitized

_REFUSED = (
    "Change what the message names: a quota or limit range, a service account, or what is in a "
    "podTemplate; or lower replicas, accelerator.count, engine.resources or kvBuffer.size."
)


def troubles(components: Sequence[Component], desired: Desired, observed: Observed) -> list[Cause]:
    """Return why pods cannot be created or do not serve, component by component."""
    return [
        cause
        for component in components
        for cause in (
            *_refused_pods(component, desired, observed),
            *_of_pods(component, desired, observed),
        )
    ]


def _of_pods(component: Component, desired: Desired, observed: Observed) -> Iterable[Cause]:
    found = observed.components[component.name]
    num_pods = desired.num_pods[component.name]
    # A Deployment keeps failed pods, such as evicted ones, after it has replaced them.
    are_replaced = component.kind == "Deployment" and found.is_rolled_out(num_pods)
    for pod in sorted(found.pods, key=lambda pod: str(pod["metadata"]["name"])):
        if are_replaced and pods.has_failed(pod):
            continue
        cause = pod_troubles.trouble(
            pod,
            observed.warnings,
            is_own_container=component.is_own_container,
            unschedulable=component.unschedulable,
        )
        if cause is not None:
            yield cause


def _refused_pods(component: Component, desired: Desired, observed: Observed) -> list[Cause]:
    """Return why the apiserver accepts no further pods.

    A Deployment has a condition for it. A StatefulSet has none: only its events say why.
    """
    found = observed.components[component.name]
    if found.body is None:
        return []
    if component.kind == "StatefulSet":
        warning = observed.warnings.get(found.body["metadata"].get("uid", ""))
        is_short = found.num_pods < desired.num_pods[component.name]
        messages = [warning] if is_short and warning is not None else []
    else:
        messages = _replica_failures(found)
    title = f"{component.kind} {found.body['metadata'].get('name', component.name)}"
    return [
        Cause(reason="PodsRefused", message=f"{title}: {said}. {_REFUSED}")
        for each in messages
        for said in (sanitized(each).rstrip(".") or "no message says why",)
    ]


def _replica_failures(found: ObservedComponent) -> list[str]:
    conditions = (found.body or {}).get("status", {}).get("conditions", ())
    return [
        each.get("message", "")
        for each in conditions
        if each.get("type") == "ReplicaFailure" and each.get("status") == "True"
    ]
