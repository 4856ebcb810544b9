"""The two layouts that a spec asks for."""

from seesaw_core.layouts import Layout
from seesaw_operator.api.spec import Layout as WantedLayout
from seesaw_operator.api.spec import Spec


def layouts_of(spec: Spec) -> tuple[Layout, Layout]:
    """Prefill and decode. Without any, each phase gets what suits it best on these devices."""
    if spec.parallelism is None:
        count = spec.accelerator.count
        return Layout(pipeline=count), Layout(tensor=count)
    return _layout(spec.parallelism.prefill), _layout(spec.parallelism.decode)


def _layout(wanted: WantedLayout) -> Layout:
    return Layout(data=wanted.data, tensor=wanted.tensor, pipeline=wanted.pipeline)
