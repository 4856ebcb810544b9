"""Validates a spec and merges its profile into it. Pure."""

from typing import Any, TypeVar

from pydantic import ValidationError

from seesaw_core.errors import InputError
from seesaw_operator.api.engine import Engine
from seesaw_operator.api.model import first_mistake
from seesaw_operator.api.pod_template import EnginePodTemplate, RouterPodTemplate
from seesaw_operator.api.router import Router
from seesaw_operator.api.spec import Spec
from seesaw_operator.objects import overlays
from seesaw_operator.objects.merging import as_given, composed
from seesaw_operator.objects.profiles import Profile, Profiles

_Component = TypeVar("_Component", Engine, Router)
_MOST_SHOWN = 200  # characters of names
_MOST_TOLD = 8  # mistakes
_SHOWN_LEVELS = 4
_DEEPEST = 64  # levels; a pod's own fields have fewer than twenty


def validated_spec(written: Any, profiles: Profiles) -> Spec:
    """Return a valid spec with its profile applied. Raises: InputError, naming the field."""
    if deep := _too_deep(written):
        raise InputError(
            f"{deep} is nested more than {_DEEPEST} levels deep, which no field of a pod is. "
            "Correct the field."
        )
    try:
        spec = Spec.model_validate(written, by_alias=True, by_name=False)
    except ValidationError as error:
        raise InputError(f"spec.{first_mistake(error)}. Correct the field.") from error
    name = spec.profile
    if name is None:
        return _checked(overlays.refusals(spec), spec)
    if name not in profiles:
        known = ", ".join(sorted(profiles)) or "none"
        raise InputError(
            f"spec.profile: this operator has no profile {name!r} (it has: {known[:_MOST_SHOWN]}). "
            "Correct the name, or add the profile to the chart's value 'profiles'."
        )
    try:
        whole = with_profile(spec, profiles[name])
    except ValidationError as error:
        raise InputError(
            f"podTemplate of profile {name!r} with that of the resource: {first_mistake(error)}. "
            "Correct either."
        ) from error
    own = overlays.refusals(spec)
    refused = [
        why if why in own else f"{why} (with profile {name!r})" for why in overlays.refusals(whole)
    ]
    return _checked(refused, whole)


def with_profile(spec: Spec, profile: Profile) -> Spec:
    """Return a spec with its own pod templates merged over those of a profile.

    Raises: ValidationError if the merged templates exceed a bound.
    """
    return spec.model_copy(
        update={
            "engine": _over(spec.engine, profile.engine.pod_template),
            "router": _over(spec.router, profile.router.pod_template),
        }
    )


def _over(own: _Component, shared: EnginePodTemplate | RouterPodTemplate | None) -> _Component:
    if shared is None:
        return own
    both = composed(as_given(shared), as_given(own.pod_template))
    return own.model_copy(update={"pod_template": type(shared).model_validate(both)})


def _too_deep(written: Any) -> str:
    """Return the first field below which a spec is nested too deeply, or an empty string."""
    level: list[tuple[str, Any]] = [("spec", written)]
    for depth in range(_DEEPEST):
        below: list[tuple[str, Any]] = []
        for path, value in level:
            if isinstance(value, dict):
                is_shown = depth < _SHOWN_LEVELS
                below += ((f"{path}.{k}" if is_shown else path, v) for k, v in value.items())
            elif isinstance(value, list):
                below += ((path, each) for each in value)
        level = below
    return level[0][0][:_MOST_SHOWN] if level else ""


def _checked(refused: list[str], spec: Spec) -> Spec:
    if refused:
        raise InputError(f"{'; '.join(refused[:_MOST_TOLD])}. Correct the fields.")
    return spec
