"""The routers as a component. ``objects.router`` builds what they need in the cluster."""

from seesaw_operator.api.owned import ROUTER as CONTAINER
from seesaw_operator.names import ROUTER, WORKER, Manifest, Owner
from seesaw_operator.objects.context import Context
from seesaw_operator.objects.router import num_routers, router_objects
from seesaw_operator.status.component import Component
from seesaw_operator.status.condition_state import Cause, Truth
from seesaw_operator.status.conditions import SCALED_TO_ZERO
from seesaw_operator.status.observed import Desired, Observed, ObservedComponent
from seesaw_operator.text import counted


def _objects(context: Context, routers: ObservedComponent) -> list[Manifest]:
    # A Deployment that is paused before it has created pods never creates any.
    has_begun = "observedGeneration" in (routers.body or {}).get("status", {})
    return router_objects(context, is_paused=context.spec.paused and has_begun)


def _condition(desired: Desired, observed: Observed, owner: Owner) -> tuple[Truth, Cause]:
    routers = observed.components[ROUTER]
    if routers.num_serving:
        serving = counted(routers.num_serving, "router serves", "routers serve")
        cause = Cause(reason="Serving", message=f"{serving} {owner.url}.")
        return "True", cause
    if not desired.num_pods[ROUTER] and not desired.num_pods[WORKER]:
        message = "No router is wanted, since no worker is."
        cause = Cause(reason=SCALED_TO_ZERO, message=message)
    else:
        rest = "routers start within seconds" if routers.pods else "there are no pods"
        cause = Cause(reason="NoneServes", message=f"No router serves yet; {rest}.")
    return "False", cause


def _counts(routers: ObservedComponent) -> dict[str, int]:
    return {"router_replicas": routers.num_serving}


ROUTERS = Component(
    name=ROUTER,
    kind="Deployment",
    condition_type="RouterReady",
    objects=_objects,
    num_pods=num_routers,
    condition=_condition,
    is_serving=True,
    counts=_counts,
    is_own_container=CONTAINER.has,
    unschedulable="Free processor cores or memory, or lower router.replicas or router.resources; "
    "router.podTemplate says which nodes may be used.",
)
