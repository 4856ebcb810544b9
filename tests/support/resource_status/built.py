"""The objects that the operator builds from a spec."""

from typing import Any

from seesaw_operator.api.spec import Spec
from seesaw_operator.components.all import COMPONENTS
from seesaw_operator.names import Manifest, Owner
from seesaw_operator.objects.context import Context
from seesaw_operator.settings import Images, Timing
from seesaw_operator.status.component import objects_of
from seesaw_operator.status.observed import Observed, ObservedComponent


def built(spec: Spec, owner: Owner, images: Images) -> list[Manifest]:
    """All objects of a resource whose objects have been applied before."""
    body: dict[str, Any] = {"status": {"observedGeneration": 1}}
    observed = Observed(
        components={each.name: ObservedComponent(kind=each.kind, body=body) for each in COMPONENTS}
    )
    context = Context(spec=spec, owner=owner, images=images, timing=Timing())
    return objects_of(COMPONENTS, context, observed)
