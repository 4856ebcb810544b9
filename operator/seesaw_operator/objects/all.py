"""From a spec to every object that it needs. Pure: the same spec gives the same objects."""

from dataclasses import replace

from seesaw_operator.api.spec import Spec
from seesaw_operator.names import Manifest, Owner
from seesaw_operator.objects.router import router_objects
from seesaw_operator.objects.worker import worker_objects
from seesaw_operator.settings import Images, Timing


def timing_of(spec: Spec, timing: Timing) -> Timing:
    """What a resource says itself, before what all have in common."""
    own = {
        "drain_s": spec.timing.drain_seconds,
        "start_s": spec.timing.start_seconds,
        "progress_s": spec.timing.progress_seconds,
    }
    return replace(timing, **{name: value for name, value in own.items() if value is not None})


def plan(
    spec: Spec, owner: Owner, images: Images, timing: Timing, *, has_routers: bool = True
) -> list[Manifest]:
    """All objects, in the order in which to create them: what takes devices last, so that what
    the apiserver refuses of the others is known before.

    has_routers: whether routers have been made. A Deployment that is paused before never has any.
    """
    return [
        *router_objects(spec, owner, images, timing, is_paused=spec.paused and has_routers),
        *worker_objects(spec, owner, images, timing),
    ]
