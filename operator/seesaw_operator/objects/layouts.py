"""The layouts or instances that a spec asks for, if it does not leave them to the planner."""

from seesaw_core.layouts import Layout
from seesaw_operator.api.parallelism import Elastic
from seesaw_operator.api.parallelism import Layout as WantedLayout
from seesaw_operator.api.spec import Spec
from seesaw_operator.objects.quantities import num_bytes


def layouts_of(spec: Spec) -> tuple[Layout, Layout] | None:
    """Prefill and decode; None if the planner chooses, or instances are elastic."""
    wanted = spec.parallelism
    if wanted is None or wanted.prefill is None or wanted.decode is None:
        return None
    return _layout(wanted.prefill), _layout(wanted.decode)


def elastic_of(spec: Spec) -> Elastic | None:
    """The elastic instances of a replica; None in another mode."""
    return None if spec.parallelism is None else spec.parallelism.elastic


def is_planned(spec: Spec) -> bool:
    """Whether the planner chooses the layouts."""
    return layouts_of(spec) is None and elastic_of(spec) is None


def num_engines(spec: Spec) -> int:
    """Engine pairs of a replica: as many as it has data-parallel parts. The planner makes one, and
    elastic instances are in one engine."""
    layouts = layouts_of(spec)
    return 1 if layouts is None else layouts[1].data


def buffer_bytes(spec: Spec) -> int:
    """Size of a replica's KV buffer, which elastic instances do not have."""
    return 0 if elastic_of(spec) is not None else num_bytes(spec.kv_buffer.size)


def _layout(wanted: WantedLayout) -> Layout:
    return Layout(data=wanted.data, tensor=wanted.tensor, pipeline=wanted.pipeline)
