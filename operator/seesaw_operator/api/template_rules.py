"""What the apiserver itself refuses of pod templates and metadata; ``overlays`` sees the rest."""

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from seesaw_operator.api import owned
from seesaw_operator.api.field_types import cel_is_key, cel_wrong_key
from seesaw_operator.api.owned import Ours
from seesaw_operator.api.rules import Reason, Rule

_NO_KEY = "a key looks like team or example.com/team, and not like"


def metadata_rules(where: str) -> Iterator[Rule]:
    """Rules on labels and annotations that users give to an object of ours."""
    others = f"{', '.join(owned.LABELS)} and those of {owned.GROUP}"
    for field in ("labels", "annotations"):
        yield Rule(
            cel=f"!has(self.{field}) || self.{field}.all(key, {cel_is_key('key')})",
            message=f"{where}.{field}: a key looks like team or example.com/team",
            told=cel_wrong_key(f"self.{field}", f"{where}.{field}: {_NO_KEY}"),
            path=f".{field}",
        )
        yield Rule(
            cel=f"!has(self.{field}) || !self.{field}.exists(key, key in {list(owned.LABELS)} || "
            f"('.' + key.split('/')[0]).endsWith('.{owned.GROUP}'))",
            message=f"{where}.{field}: {others} belong to the operator or to Kubernetes",
            path=f".{field}",
            reason=Reason.FORBIDDEN,
        )


def template_rules(ours: Ours) -> tuple[Rule, ...]:
    """Rules on the PodSpec of one component's template."""
    return (*_of_our_container(ours), *_of_names(ours))


def _of_our_container(ours: Ours) -> Iterator[Rule]:
    name = ours.container

    def rule(cel: str, said: str) -> Rule:
        message = f"the container {name} {said}"
        return _each("containers", f"c, c.name != '{name}' || {cel}", message)

    is_owned = " || ".join(f"has(c.{field})" for field in sorted(owned.OF_CONTAINER))
    is_owned += " || (has(c.ports) && c.ports.size() > 0)"
    yield rule(
        f"!({is_owned})",
        f"takes only {', '.join(owned.FREE_IN_CONTAINER)}; the rest is made of {ours.fields}",
    )
    of_resources = " && ".join(
        f"(!has(c.resources.{part}) || !('{resource}' in c.resources.{part}))"
        for part in ("limits", "requests")
        for resource in owned.RESOURCES
    )
    yield rule(
        f"!has(c.resources) || ({of_resources})",
        f"takes its cpu and memory from {ours.sizes}",
    )
    if ours.env:
        yield rule(
            f"!has(c.env) || !c.env.exists(e, e.name in {list(ours.env)})",
            f"takes {listed(ours.env)} from {name}.env",
        )
    if ours.mounts:
        yield rule(
            "!has(c.volumeMounts) || "
            f"!c.volumeMounts.exists(m, m.mountPath.matches('{_covering(ours.mounts)}'))",
            f"has volumes of ours at {listed(ours.mounts)}: none can be mounted there or above",
        )


def _of_names(ours: Ours) -> Iterator[Rule]:
    name = ours.container
    yield Rule(
        cel=f"!has(self.nodeSelector) || self.nodeSelector.all(key, {cel_is_key('key')})",
        message="podTemplate.spec.nodeSelector: a key looks like team or example.com/team",
        told=cel_wrong_key("self.nodeSelector", f"podTemplate.spec.nodeSelector: {_NO_KEY}"),
        path=".nodeSelector",
    )
    yield _each(
        "containers",
        f"c, c.name == '{name}' || has(c.image)",
        f"a container that is not named {name} is one more, and needs an image",
    )
    if ours.names != name:
        yield _each(
            "containers",
            f"c, !c.name.matches('^({ours.names})$')",
            f"such a name as {name}-0 is that of a container of ours; {name} means all of them",
        )
    yield _each("initContainers", "c, has(c.image)", "each needs an image", Reason.REQUIRED)
    yield _each(
        "initContainers",
        f"c, !c.name.matches('^({name}|{ours.names})$')",
        f"{name} is the name of a container of ours",
    )
    if ours.volumes:
        yield _each(
            "volumes",
            f"v, !(v.name in {list(ours.volumes)})",
            f"{listed(ours.volumes)} are volumes of ours",
        )


def _each(field: str, cel: str, message: str, reason: Reason = Reason.FORBIDDEN) -> Rule:
    """Something that holds for each item of a list, if there is one."""
    return Rule(
        cel=f"!has(self.{field}) || self.{field}.all({cel})",
        message=f"podTemplate.spec.{field}: {message}",
        path=f".{field}",
        reason=reason,
    )


def _covering(paths: Sequence[str]) -> str:
    """A pattern of paths at which, or below which, one of ours is."""
    folders = {*paths, *(str(above) for path in paths for above in PurePosixPath(path).parents)}
    spelled = sorted("/+".join(folder.strip("/").split("/")) for folder in folders)
    return f"^/*({'|'.join(spelled)})/*$"


def listed(names: Sequence[str]) -> str:
    """As a sentence has them."""
    return f"{', '.join(names[:-1])} and {names[-1]}"
