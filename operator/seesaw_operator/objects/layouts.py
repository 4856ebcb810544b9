"""The layouts that a spec asks for, if it does not leave them to the planner."""

from seesaw_core.layouts import Layout
from seesaw_operator.api.parallelism import Layout as WantedLayout
from seesaw_operator.api.spec import Spec


def layouts_of(spec: Spec) -> tuple[Layout, Layout] | None:
    """Prefill and decode; None if the planner chooses."""
    wanted = spec.parallelism
    if wanted is None or wanted.prefill is None or wanted.decode is None:
        return None
    return _layout(wanted.prefill), _layout(wanted.decode)


def is_planned(spec: Spec) -> bool:
    """Whether the planner chooses the layouts."""
    return layouts_of(spec) is None


def num_engines(spec: Spec) -> int:
    """Engine pairs of a replica: as many as it has data-parallel parts. The planner makes one."""
    layouts = layouts_of(spec)
    return 1 if layouts is None else layouts[1].data


def _layout(wanted: WantedLayout) -> Layout:
    return Layout(data=wanted.data, tensor=wanted.tensor, pipeline=wanted.pipeline)
