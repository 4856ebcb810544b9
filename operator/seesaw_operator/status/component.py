"""One part of a SeesawDeployment, such as its workers or its routers.

To add a part, add a module to ``seesaw_operator.components`` that defines a :class:`Component`, and
list it in ``all``. The control loop and the status know a new component only through this class.
They know of the workers besides that these report plans, and that ``kubectl scale`` is about them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from seesaw_operator.api.spec import Spec
from seesaw_operator.api.status import Measured, Status
from seesaw_operator.cluster.store import Key, Object, Store
from seesaw_operator.names import Manifest, Owner
from seesaw_operator.objects.context import Context
from seesaw_operator.status.condition_state import Cause, ConditionState, Truth
from seesaw_operator.status.observed import (
    Desired,
    Observed,
    ObservedComponent,
    component_of,
    others_of,
)

PAUSED, ROLLING_OUT = "Paused", "RollingOut"


def _is_any(_: str) -> bool:
    return True


def _no_counts(_: ObservedComponent) -> dict[str, int]:
    return {}


def _no_impairments(_: Observed) -> list[Cause]:
    return []


def _no_warnings(_old: Status, _new: Status) -> list[Cause]:
    return []


def _no_events(_old: Status, _new: Status, _resource: Object) -> list[Cause]:
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """Everything that the operator knows of one component. All functions are pure.

    name: the value of its objects' label ``app.kubernetes.io/component``.
    kind: the kind of the object ``RESOURCE-NAME`` that controls its pods.
    condition_type: the condition that ``condition`` reports.
    objects: its objects, in the order in which to create them; what exists of it comes with the
        context.
    num_pods: how many pods a spec asks for.
    condition: whether the component is as it should be, and why.
    rollout: what is under way, or None; by default, whether all pods match the spec and serve.
    is_serving: whether requests pass through its pods, so that nothing serves without one.
    counts: fields of the status that count its pods. A count that grows is progress.
    impairments: what is wrong with pods that serve nevertheless, which makes the resource degraded.
    events, warnings: Events to record when the status changes, other than changes of conditions.
    is_own_container: whether the operator, and not a user's pod template, defines a container.
    unschedulable: what to do about a pod for which no node is found.
    """

    name: str
    kind: Literal["StatefulSet", "Deployment"]
    condition_type: str
    objects: Callable[[Context, ObservedComponent], list[Manifest]]
    num_pods: Callable[[Spec], int]
    condition: Callable[[Desired, Observed, Owner], tuple[Truth, Cause]]
    rollout: Callable[[Desired, Observed], Cause | None] | None = None
    is_serving: bool = False
    counts: Callable[[ObservedComponent], dict[str, int]] = _no_counts
    impairments: Callable[[Observed], list[Cause]] = _no_impairments
    events: Callable[[Status, Status, Object], list[Cause]] = _no_events
    warnings: Callable[[Status, Status], list[Cause]] = _no_warnings
    is_own_container: Callable[[str], bool] = _is_any
    unschedulable: str = "Free or add what the message names."


def observe(
    components: Sequence[Component], store: Store, key: Key, measured: Measured | None
) -> Observed:
    """Return what the store holds of a resource, and what its workers report."""
    return Observed(
        components={c.name: component_of(store, key, c.name, c.kind) for c in components},
        others=others_of(store, key),
        measured=measured,
    )


def objects_of(
    components: Sequence[Component], context: Context, observed: Observed
) -> list[Manifest]:
    """Return all objects of a resource, in the order in which to create them.

    The last components come first: workers take devices, so by the time they are created, it is
    known whether the apiserver accepts everything else.
    """
    return [
        manifest
        for component in reversed(components)
        for manifest in component.objects(context, observed.components[component.name])
    ]


def desired_by(components: Sequence[Component], spec: Spec) -> Desired:
    """Return what a spec asks for."""
    counts = {component.name: component.num_pods(spec) for component in components}
    return Desired(num_pods=counts, is_paused=spec.paused)


def condition_of(
    component: Component, desired: Desired, observed: Observed, owner: Owner
) -> ConditionState:
    """Return the condition of one component."""
    status, cause = component.condition(desired, observed, owner)
    return ConditionState(type=component.condition_type, status=status, cause=cause)


def rollout_of(component: Component, desired: Desired, observed: Observed) -> Cause | None:
    """Return what is under way, or held back by a pause, for one component; None if nothing is."""
    if component.rollout is not None:
        return component.rollout(desired, observed)
    found, num_pods = observed.components[component.name], desired.num_pods[component.name]
    if desired.is_paused and not found.is_updated(num_pods):
        return Cause(reason=PAUSED, message=f"spec.paused keeps the {component.name}s as they are.")
    if not found.is_rolled_out(num_pods):
        message = f"The {component.name}s are being replaced, one at a time."
        return Cause(reason=ROLLING_OUT, message=message)
    return None
