"""Merges a user's pod template into one of the operator's, as ``kubectl patch`` would.

Maps are merged. Lists are merged by the key that core/v1 defines for them; other lists and values
are replaced; null removes a field. Merging the same template again changes nothing.

Deviation: an item of the user's list changes at most one existing item, and never another item of
the user's. ``kubectl patch`` merges two items that share a key once the list has items.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from seesaw_core.errors import InputError
from seesaw_operator.api.owned import Ours
from seesaw_operator.names import Manifest

# core/v1's patchMergeKey by field; lists of all other fields are replaced as a whole.
MERGE_KEYS = {
    "containers": "name",
    "env": "name",
    "hostAliases": "ip",
    "imagePullSecrets": "name",
    "initContainers": "name",
    "ports": "containerPort",
    "resourceClaims": "name",
    "schedulingGates": "name",
    "topologySpreadConstraints": "topologyKey",
    "volumeDevices": "devicePath",
    "volumeMounts": "mountPath",
    "volumes": "name",
}


def as_given(template: BaseModel | None) -> Manifest:
    """Return a user's template as Kubernetes spells it. Raises: InputError if it is too deep."""
    if template is None:
        return {}
    try:
        return template.model_dump(
            mode="json", by_alias=True, exclude_unset=True, exclude_none=True
        )
    except (ValueError, RecursionError) as error:
        raise InputError("a podTemplate is nested too deeply: have fewer levels") from error


def composed(base: Manifest, patch: Manifest) -> Manifest:
    """Merge two users' templates. ``patch`` wins; nulls stay, to remove fields of ours later."""
    made: Manifest = _merged(base, patch, keeps_null=True)
    return made


def with_template(made: Manifest, template: BaseModel | None, ours: Ours) -> Manifest:
    """Merge a user's template into one of ours. Requires: ``overlays`` refuses none of it."""
    given = as_given(template)
    pod = given.get("spec", {})
    if "containers" in pod:
        names = [each["name"] for each in made["spec"]["containers"] if ours.has(each["name"])]
        containers = [
            each | {"name": name}
            for each in pod["containers"]
            for name in (names if each["name"] == ours.container else [each["name"]])
        ]
        given = given | {"spec": pod | {"containers": containers}}
    merged: Manifest = _merged(made, given)
    return merged


def _merged(base: Any, patch: Any, key: str | None = None, *, keeps_null: bool = False) -> Any:
    """Return the merged value. ``key``: the field that identifies items, if both are lists."""
    if isinstance(patch, dict):
        found = dict(base) if isinstance(base, dict) else {}
        for name, value in patch.items():
            if value is None and not keeps_null:
                found.pop(name, None)
            else:
                below = MERGE_KEYS.get(name)
                found[name] = _merged(found.get(name), value, below, keeps_null=keeps_null)
        return found
    if isinstance(patch, list):
        if key is None or not all(_has(each, key) for each in patch):
            return [_merged(None, each, keeps_null=keeps_null) for each in patch]
        return _with_items(base or (), patch, key, keeps_null=keeps_null)
    return patch


def _with_items(
    base: Sequence[Manifest], patch: Sequence[Manifest], key: str, *, keeps_null: bool
) -> list[Manifest]:
    """Merge each item with the first of the patch that has its key; append the others."""
    left = list(patch)
    found = []
    for item in base:
        change = next((each for each in left if each[key] == item[key]), None)
        if change is not None:
            left.remove(change)
        found.append(_merged(item, change or {}, keeps_null=keeps_null))
    return found + [_merged(None, each, keeps_null=keeps_null) for each in left]


def _has(item: Any, key: str) -> bool:
    """Whether an item can be identified. If not, the apiserver will refuse it."""
    return isinstance(item, dict) and isinstance(item.get(key), str | int)
