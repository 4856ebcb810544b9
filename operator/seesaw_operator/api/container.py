"""A pod template's containers. What the operator's rules are about has a type, the rest is free."""

from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, ValidationInfo, model_validator

from seesaw_operator.api import owned
from seesaw_operator.api.field_types import (
    AnyEnvName,
    AnyQuantity,
    ContainerName,
    MountPath,
    ObjectName,
    PortName,
)
from seesaw_operator.api.model import ApiModel
from seesaw_operator.api.rules import foreign, foreign_of

Free = dict[str, Any]
UNSEEN: Free = {"unseen": True}
"""The context of validating what no apiserver has checked against the schema."""


class Open(ApiModel):
    """A part of core/v1 that may have more fields than are named here."""

    model_config = ConfigDict(extra="allow")

    @model_validator(mode="after")
    def _has_types_of_kubernetes(self, info: ValidationInfo) -> Self:
        """Refuse what the apiserver would, where it has not seen it: in a profile."""
        given = (self.model_extra or {}) if info.context == UNSEEN else {}
        for name, field in foreign_of(type(self)).items():
            if given.get(name) is not None and not field.holds(given[name]):
                raise ValueError(f"{name} must be {field.kind}, is {type(given[name]).__name__}")
        return self


def keyed(*names: str) -> Free:
    """A list whose items are known by some of their fields, by which they are merged."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(names)}


class Named(Open):
    """Something that its name identifies."""

    name: ObjectName = Field(description="Its name.")


class ShortNamed(Open):
    """Something whose name has no dots, as containers have it."""

    name: ContainerName = Field(description="Its name.")


class Variable(Open):
    """An environment variable."""

    name: AnyEnvName = Field(description="Its name.")


class Mount(Open):
    """A volume in a container."""

    mount_path: MountPath = Field(description="Where it is in the container.")


class Port(Open):
    """A port of a container."""

    name: PortName | None = Field(default=None, description="Its name.")
    container_port: Annotated[int, Field(ge=1, le=65535)] = Field(description="Its number.")


class ContainerResources(Open):
    """What a container asks for."""

    limits: Annotated[dict[str, AnyQuantity], Field(max_length=32)] | None = Field(
        default=None, description="At most so much."
    )
    requests: Annotated[dict[str, AnyQuantity], Field(max_length=32)] | None = Field(
        default=None, description="At least so much."
    )


@foreign(owned.OF_CONTAINER)
class Container(Open):
    """A container of core/v1."""

    name: ContainerName = Field(description="Its name.")
    env: Annotated[tuple[Variable, ...], Field(max_length=256)] | None = Field(
        default=None, description="Its variables.", json_schema_extra=keyed("name")
    )
    ports: Annotated[tuple[Port, ...], Field(max_length=64)] | None = Field(
        default=None, description="Its ports."
    )
    resources: ContainerResources | None = Field(default=None, description="What it asks for.")
    security_context: Free | None = Field(default=None, description="Its rights.")
    volume_mounts: Annotated[tuple[Mount, ...], Field(max_length=128)] | None = Field(
        default=None, description="Its volumes.", json_schema_extra=keyed("mountPath")
    )
