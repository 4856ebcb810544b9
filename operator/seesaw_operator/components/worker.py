"""The workers as a component. ``objects.worker`` builds what they need in the cluster."""

from seesaw_operator.api.owned import ENGINE
from seesaw_operator.api.spec import Spec
from seesaw_operator.names import WORKER, Manifest, Owner
from seesaw_operator.objects.context import Context
from seesaw_operator.objects.worker import worker_objects
from seesaw_operator.status import elastic, layout_plans
from seesaw_operator.status.component import PAUSED, ROLLING_OUT, Component
from seesaw_operator.status.condition_state import Cause, Truth
from seesaw_operator.status.conditions import SCALED_TO_ZERO
from seesaw_operator.status.observed import Desired, Observed, ObservedComponent
from seesaw_operator.text import counted


def _objects(context: Context, _: ObservedComponent) -> list[Manifest]:
    return worker_objects(context)


def _num_pods(spec: Spec) -> int:
    return spec.replicas


def _condition(desired: Desired, observed: Observed, _: Owner) -> tuple[Truth, Cause]:
    workers, replicas = observed.components[WORKER], desired.num_pods[WORKER]
    if replicas == 0:
        cause = Cause(
            reason=SCALED_TO_ZERO,
            message="No worker is wanted. Set spec.replicas to serve.",
        )
        return "True", cause
    message = f"{workers.num_serving} of {replicas} workers serve"
    if workers.num_serving >= replicas:
        cause = Cause(reason="AllServe", message=f"{message}.")
        return "True", cause
    rest = "the others start, load or drain" if workers.pods else "there are no pods"
    cause = Cause(reason="NotAllServe", message=f"{message}; {rest}.")
    return "False", cause


def _rollout(desired: Desired, observed: Observed) -> Cause | None:
    workers, replicas = observed.components[WORKER], desired.num_pods[WORKER]
    is_behind = workers.num_updated < replicas
    matching = f"{workers.num_updated} of {replicas} worker pods match the spec"
    if not workers.is_current or workers.num_pods != replicas:
        ending = workers.num_draining
        draining = f", {counted(ending, 'drains', 'drain')}" if ending else ""
        message = f"{workers.num_pods} of {replicas} worker pods exist{draining}."
        return Cause(reason="Scaling", message=message)
    if is_behind and not desired.is_paused:
        return Cause(reason=ROLLING_OUT, message=f"{matching}; they are replaced one at a time.")
    if workers.num_serving < replicas:
        message = f"{workers.num_serving} of {replicas} worker pods serve."
        return Cause(reason="Starting", message=message)
    if is_behind:
        message = f"{matching}; spec.paused keeps the others and the routers as they are."
        return Cause(reason=PAUSED, message=message)
    return None


def _counts(workers: ObservedComponent) -> dict[str, int]:
    return {
        "replicas": workers.num_pods,
        "ready_replicas": workers.num_serving,
        "updated_replicas": workers.num_updated,
    }


WORKERS = Component(
    name=WORKER,
    kind="StatefulSet",
    condition_type="WorkersReady",
    objects=_objects,
    num_pods=_num_pods,
    condition=_condition,
    rollout=_rollout,
    is_serving=True,
    counts=_counts,
    impairments=elastic.impairments,
    events=layout_plans.events,
    warnings=elastic.warnings,
    is_own_container=ENGINE.has,
    unschedulable="Free or add devices, or lower accelerator.count, replicas or engine.resources; "
    "engine.nodeSelector, engine.tolerations and engine.podTemplate say which nodes may be used.",
)
