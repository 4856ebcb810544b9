"""What the chart's values have in common."""

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

KubernetesObject = dict[str, Any]
"""A part of a Kubernetes object, passed on as it is: the apiserver knows what it may hold."""


class Part(BaseModel):
    """Values that belong together: camelCase outside, and nothing beyond what is listed."""

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, extra="forbid", frozen=True
    )
