"""What the builders of objects are given, once for all objects of a resource."""

from dataclasses import dataclass, replace

from seesaw_operator.api.spec import Spec
from seesaw_operator.api.status import AppliedWorkload
from seesaw_operator.names import Owner
from seesaw_operator.settings import Images, Timing


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The inputs from which all objects of one resource are built.

    timing: the operator's defaults, overridden by the resource's own values.
    applied: the measured workload that ``spec.planning`` holds in place of the user's, if any.
    """

    spec: Spec
    owner: Owner
    images: Images
    timing: Timing
    applied: AppliedWorkload | None = None


def timing_of(spec: Spec, defaults: Timing) -> Timing:
    """Return the defaults, overridden by the values that the resource sets itself."""
    own = {
        "drain_s": spec.timing.drain_seconds,
        "start_s": spec.timing.start_seconds,
        "progress_s": spec.timing.progress_seconds,
    }
    return replace(defaults, **{name: value for name, value in own.items() if value is not None})
