"""Each condition of a SeesawDeployment, from what is desired and what is observed. Pure.

The components report their own conditions; those of the resource as a whole are derived here. What
keeps a spec from being applied is not known here.
"""

from collections.abc import Sequence
from dataclasses import replace

from seesaw_operator.api.status import ConditionType
from seesaw_operator.names import Owner
from seesaw_operator.status.component import (
    PAUSED,
    ROLLING_OUT,
    Component,
    condition_of,
    rollout_of,
)
from seesaw_operator.status.condition_state import Cause, ConditionState
from seesaw_operator.status.observed import Desired, Observed
from seesaw_operator.status.troubles import troubles
from seesaw_operator.text import counted, sanitized

SCALED_TO_ZERO = "ScaledToZero"
_UP_TO_DATE = "UpToDate"


def is_at_rest(components: Sequence[Component], desired: Desired, observed: Observed) -> bool:
    """Whether nothing is under way. What a pause holds back is not under way."""
    return _reconciling(components, desired, observed).status == "False"


def is_settled(components: Sequence[Component], desired: Desired, observed: Observed) -> bool:
    """Whether all desired pods serve and match the latest spec."""
    return _reconciling(components, desired, observed).cause.reason == _UP_TO_DATE


def condition_states(
    components: Sequence[Component],
    owner: Owner,
    desired: Desired,
    observed: Observed,
    *,
    is_late: bool,
) -> list[ConditionState]:
    """Return all conditions of a resource whose objects are applied.

    is_late: whether nothing has moved for longer than the progress deadline.

    Source: kstatus uses the first that holds of ``Reconciling`` and ``Stalled``, so a resource that
    is stalled must not be reconciling.
    """
    accepted = ConditionState(
        type=ConditionType.ACCEPTED,
        status="True",
        cause=Cause(reason="Valid", message="The spec is valid and its objects are applied."),
    )
    of_components = [condition_of(each, desired, observed, owner) for each in components]
    obstacles = troubles(components, desired, observed)
    impairments = [cause for each in components for cause in each.impairments(observed)]
    obstructed = _degraded(obstacles)  # what pods that serve lack is no obstacle
    reconciling = _reconciling(components, desired, observed)
    # Why nothing is served although nothing is wrong: no worker is wanted.
    pairs = zip(components, of_components, strict=True)
    zero = next(
        (c.cause for part, c in pairs if part.is_serving and not desired.num_pods[part.name]), None
    )
    serving = Cause(reason="Serving", message=f"Serving at {owner.url}.")
    if all(observed.components[c.name].num_serving for c in components if c.is_serving):
        available = ConditionState(type=ConditionType.AVAILABLE, status="True", cause=serving)
    else:
        waiting = zero or _first_obstacle(components, of_components, obstructed)
        available = ConditionState(type=ConditionType.AVAILABLE, status="False", cause=waiting)
    stalled = _stalled(obstructed, reconciling, is_late=is_late)
    ready = _ready(obstructed, reconciling, zero or serving)
    if stalled.status == "True":
        reconciling = replace(reconciling, status="False", cause=stalled.cause)
    degraded = _degraded([*obstacles, *impairments])
    return [accepted, *of_components, available, ready, reconciling, stalled, degraded]


def _first_obstacle(
    components: Sequence[Component], of_components: list[ConditionState], obstructed: ConditionState
) -> Cause:
    """Return why the resource is not available: a trouble, or a component that does not serve."""
    if obstructed.status == "True":
        return obstructed.cause
    pairs = zip(components, of_components, strict=True)
    failing = (c.cause for part, c in pairs if part.is_serving and c.status != "True")
    return next(failing, obstructed.cause)


def _ready(obstructed: ConditionState, reconciling: ConditionState, done: Cause) -> ConditionState:
    """Whether everything matches the latest spec and serves."""
    if reconciling.cause.reason == _UP_TO_DATE:
        return ConditionState(type=ConditionType.READY, status="True", cause=done)
    cause = _waiting_for(obstructed, reconciling)
    return ConditionState(type=ConditionType.READY, status="False", cause=cause)


def _waiting_for(obstructed: ConditionState, reconciling: ConditionState) -> Cause:
    return obstructed.cause if obstructed.status == "True" else reconciling.cause


def _stalled(
    obstructed: ConditionState, reconciling: ConditionState, *, is_late: bool
) -> ConditionState:
    if reconciling.status == "False" or not is_late:
        message = "Nothing is to be done, or something has moved within the progress deadline."
        cause = Cause(reason="NotStalled", message=message)
        return ConditionState(type=ConditionType.STALLED, status="False", cause=cause)
    cause = Cause(
        reason="ProgressDeadlineExceeded",
        message="Nothing has moved for longer than the progress deadline: "
        f"{_waiting_for(obstructed, reconciling).message}",
    )
    return ConditionState(type=ConditionType.STALLED, status="True", cause=cause)


def _reconciling(
    components: Sequence[Component], desired: Desired, observed: Observed
) -> ConditionState:
    deleting = _deleting(observed)
    if deleting is not None:
        return ConditionState(type=ConditionType.RECONCILING, status="True", cause=deleting)
    rollouts = [
        cause for each in components if (cause := rollout_of(each, desired, observed)) is not None
    ]
    paused = next((cause for cause in rollouts if cause.reason == PAUSED), None)
    held_back = () if paused is None else (PAUSED, ROLLING_OUT)
    under_way = next((cause for cause in rollouts if cause.reason not in held_back), None)
    up_to_date = Cause(reason=_UP_TO_DATE, message="All pods match the spec and serve.")
    return ConditionState(
        type=ConditionType.RECONCILING,
        status="False" if under_way is None else "True",
        cause=under_way or paused or up_to_date,
    )


def _deleting(observed: Observed) -> Cause | None:
    """Return which object is being deleted, and so cannot be made to match the spec."""
    workloads = (found.body for found in observed.components.values())
    for body in (*workloads, *observed.others):
        if body is None or "deletionTimestamp" not in body["metadata"]:
            continue
        metadata = body["metadata"]
        finalizers = sanitized(", ".join(metadata.get("finalizers") or ()))
        message = (
            f"{body['kind']} {metadata['name']} is being deleted, and is created again once it is "
            "gone" + (f"; it waits for the finalizers {finalizers}." if finalizers else ".")
        )
        return Cause(reason="Deleting", message=message)
    return None


def _degraded(found: Sequence[Cause]) -> ConditionState:
    if not found:
        message = "Nothing that keeps a pod from serving is known."
        cause = Cause(reason="NoTrouble", message=message)
        return ConditionState(type=ConditionType.DEGRADED, status="False", cause=cause)
    first, num_more = found[0], len(found) - 1
    more = f" ({counted(num_more, 'more pod is', 'more pods are')} in trouble.)" if num_more else ""
    return ConditionState(
        type=ConditionType.DEGRADED,
        status="True",
        cause=replace(first, message=first.message + more),
    )
