"""Profiles: named pod templates that the operator reads at its start, and that resources share.

No apiserver validates them. So whatever it would refuse in a resource's own templates is refused
here, and mistakes that do not depend on the resource end the operator at its start.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from pydantic import Field, TypeAdapter, ValidationError

from seesaw_core.errors import InputError
from seesaw_core.units import MIB
from seesaw_flags.files import read_text
from seesaw_operator.api import owned
from seesaw_operator.api.container import UNSEEN
from seesaw_operator.api.field_types import ObjectName
from seesaw_operator.api.model import ApiModel, first_mistake
from seesaw_operator.api.pod_template import EnginePodTemplate, RouterPodTemplate
from seesaw_operator.api.spec import Spec
from seesaw_operator.objects import overlays
from seesaw_operator.objects.merging import MERGE_KEYS

MOST_BYTES = 1 * MIB  # as a ConfigMap
_MOST_SHOWN = 200
_FIX = "Correct it (in the chart: the value 'profiles')."
# What tells items apart, but for those that ``overlays`` looks at.
_KEYS = {
    field: (key,)
    for field, key in MERGE_KEYS.items()
    if field not in ("containers", "initContainers", "ports")
} | {"topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable")}


class EngineProfile(ApiModel):
    """For workers."""

    pod_template: EnginePodTemplate | None = Field(default=None, description="Of workers' pods.")


class RouterProfile(ApiModel):
    """For routers."""

    pod_template: RouterPodTemplate | None = Field(default=None, description="Of routers' pods.")


class Profile(ApiModel):
    """Pod templates for the resources that name this profile."""

    engine: EngineProfile = Field(default=EngineProfile(), description="For workers.")
    router: RouterProfile = Field(default=RouterProfile(), description="For routers.")


Profiles = Mapping[str, Profile]
_READER = TypeAdapter(dict[ObjectName, Profile])


def read_profiles(file: Path | None) -> Profiles:
    """Return the profiles in a JSON file; none without a file. Raises: InputError."""
    if file is None:
        return {}
    text = read_text(file, flag="--profiles", most_bytes=MOST_BYTES)
    try:
        return profiles_of(text)
    except InputError as error:
        raise InputError(f"--profiles={file}: {error} {_FIX}") from error


def profiles_of(text: str) -> Profiles:
    """Return the profiles in a JSON text. Raises: InputError, naming profile, field and value."""
    try:
        written = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
        found = _READER.validate_json(text, strict=True, context=UNSEEN)
    except ValidationError as error:
        raise InputError(f"{first_mistake(error)}.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"is not read as JSON: {error}.") from error
    for name, profile in found.items():
        wrong = next(_mistakes(written[name], profile), None)
        if wrong is not None:
            raise InputError(f"{name}{wrong}.")
    return found


def _mistakes(written: Any, profile: Profile) -> Iterator[str]:
    """Yield the mistakes that do not depend on the resource, each beginning with the field."""
    read = profile.model_dump(mode="json", by_alias=True, exclude_unset=True)
    yield from _unread(written, read, "")
    yield from _twice(written, "")
    bare = Spec.model_validate({"model": {"uri": "any"}, "accelerator": {"resourceName": "cpu"}})
    parts = {
        part: getattr(bare, part).model_copy(update={"pod_template": shared.pod_template})
        for part, shared in (("engine", profile.engine), ("router", profile.router))
    }
    for why in overlays.refusals(bare.model_copy(update=parts)):
        yield why.removeprefix("spec")


def _unread(written: Any, read: Any, path: str) -> Iterator[str]:
    """Yield fields that no model reads."""
    if isinstance(written, dict):
        for name, value in written.items():
            if name in read:
                yield from _unread(value, read[name], f"{path}.{name}")
                continue
            of_pod = owned.OF_POD.get(name) if path.endswith(".podTemplate.spec") else None
            why = of_pod.refusal if of_pod else "there is no such field"
            yield f"{path}.{name}: {why} (got {repr(value)[:_MOST_SHOWN]})"
    if isinstance(written, list):
        for index, (value, below) in enumerate(zip(written, read, strict=True)):
            yield from _unread(value, below, f"{path}[{index}]")


def _twice(written: Any, path: str) -> Iterator[str]:
    """Yield list items that share the key that identifies them."""
    if isinstance(written, list):
        for index, value in enumerate(written):
            yield from _twice(value, f"{path}[{index}]")
    if not isinstance(written, dict):
        return
    for name, value in written.items():
        yield from _twice(value, f"{path}.{name}")
        keys = _KEYS.get(name, ())
        if keys and isinstance(value, list):
            items = [each for each in value if isinstance(each, dict)]
            told = Counter(json.dumps([each.get(key) for key in keys]) for each in items)
            for same in (each for each, times in told.items() if times > 1):
                yield f"{path}.{name}: {same} is there twice"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        (name, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{name!r} is there twice")
    return made


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")
