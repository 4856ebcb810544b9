"""From a spec to every object that it needs. Pure: the same spec gives the same objects."""

from seesaw_operator.api.spec import Spec
from seesaw_operator.names import Manifest, Owner
from seesaw_operator.objects.router import router_objects
from seesaw_operator.objects.worker import worker_objects
from seesaw_operator.settings import Images, Timing


def plan(spec: Spec, owner: Owner, images: Images, timing: Timing) -> list[Manifest]:
    """All objects, in the order in which to create them."""
    return [
        *worker_objects(spec, owner, images, timing),
        *router_objects(spec, owner, images, timing),
    ]
