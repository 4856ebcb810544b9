"""The containers of a pod template. Fields that the operator's rules need have a type."""

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
"""The pydantic context for input that no apiserver has validated against the schema."""


class Open(ApiModel):
    """A part of core/v1 that may have further fields."""

    model_config = ConfigDict(extra="allow")

    @model_validator(mode="after")
    def _has_types_of_kubernetes(self, info: ValidationInfo) -> Self:
        """Refuse wrong types in a profile, as the apiserver does in a resource."""
        given = (self.model_extra or {}) if info.context == UNSEEN else {}
        for name, field in foreign_of(type(self)).items():
            if given.get(name) is not None and not field.holds(given[name]):
                raise ValueError(f"{name} must be {field.kind}, is {type(given[name]).__name__}")
        return self


def keyed(*names: str) -> Free:
    """Return the schema of a list whose items are identified, and merged, by some fields."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(names)}


class Named(Open):
    """An item that is identified by its name."""

    name: ObjectName = Field(description="The name.")


class ShortNamed(Open):
    """An item that is identified by a name without dots."""

    name: ContainerName = Field(description="The name.")


class Variable(Open):
    """An environment variable."""

    name: AnyEnvName = Field(description="The name.")


class Mount(Open):
    """A volume in a container."""

    mount_path: MountPath = Field(description="The mount path in the container.")


class Port(Open):
    """A port of a container."""

    name: PortName | None = Field(default=None, description="The name.")
    container_port: Annotated[int, Field(ge=1, le=65535)] = Field(description="The port number.")


class ContainerResources(Open):
    """Resources of a container."""

    limits: Annotated[dict[str, AnyQuantity], Field(max_length=32)] | None = Field(
        default=None, description="Limits, by resource."
    )
    requests: Annotated[dict[str, AnyQuantity], Field(max_length=32)] | None = Field(
        default=None, description="Requests, by resource."
    )


@foreign(owned.OF_CONTAINER)
class Container(Open):
    """A container of core/v1."""

    name: ContainerName = Field(description="The name.")
    env: Annotated[tuple[Variable, ...], Field(max_length=256)] | None = Field(
        default=None, description="Environment variables.", json_schema_extra=keyed("name")
    )
    ports: Annotated[tuple[Port, ...], Field(max_length=64)] | None = Field(
        default=None, description="Ports."
    )
    resources: ContainerResources | None = Field(default=None, description="Requests and limits.")
    security_context: Free | None = Field(default=None, description="The security context.")
    volume_mounts: Annotated[tuple[Mount, ...], Field(max_length=128)] | None = Field(
        default=None, description="Volume mounts.", json_schema_extra=keyed("mountPath")
    )
