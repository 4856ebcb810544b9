"""Parts of Kubernetes' own objects that are passed on, as far as they are checked beforehand.

As in all values, nothing beyond what is listed is taken.
"""

from typing import Annotated, Literal, Required

from pydantic import Field
from typing_extensions import TypedDict

from seesaw_generate.chart.kinds import Amounts
from seesaw_generate.chart.part import KubernetesObject
from seesaw_operator.api.field_types import (
    LONGEST_KEY,
    OPTIONAL_LABEL_KEY_FORM,
    EnvName,
    LabelKey,
    LabelValue,
    ObjectName,
)


class Resources(TypedDict, total=False):
    """What a container takes."""

    requests: Amounts
    limits: Amounts
    claims: list[KubernetesObject]


class EnvVariable(TypedDict, total=False):
    """An environment variable of a container."""

    name: Required[EnvName]
    value: str
    valueFrom: KubernetesObject


class EnvSourceName(TypedDict, total=False):
    """A Secret or ConfigMap in the operator's namespace."""

    name: Required[ObjectName]
    optional: bool


class EnvSource(TypedDict, total=False):
    """A Secret or ConfigMap to take variables from."""

    prefix: str
    configMapRef: EnvSourceName
    secretRef: EnvSourceName


class Toleration(TypedDict, total=False):
    """A taint of nodes that pods put up with."""

    key: Annotated[str, Field(max_length=LONGEST_KEY), OPTIONAL_LABEL_KEY_FORM]
    operator: Literal["Equal", "Exists", ""]
    value: LabelValue
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute", ""]
    tolerationSeconds: int


class Affinity(TypedDict, total=False):
    """Where pods are drawn to."""

    nodeAffinity: KubernetesObject
    podAffinity: KubernetesObject
    podAntiAffinity: KubernetesObject


class Spread(TypedDict, total=False):
    """How pods are spread over nodes."""

    maxSkew: Required[Annotated[int, Field(ge=1, le=2**31 - 1)]]
    topologyKey: Required[LabelKey]
    whenUnsatisfiable: Required[Literal["DoNotSchedule", "ScheduleAnyway"]]
    labelSelector: KubernetesObject
    matchLabelKeys: list[LabelKey]
    minDomains: Annotated[int, Field(ge=1, le=2**31 - 1)]
    nodeAffinityPolicy: Literal["Honor", "Ignore"]
    nodeTaintsPolicy: Literal["Honor", "Ignore"]


class Peer(TypedDict, total=False):
    """Who is on the other side of a NetworkPolicy."""

    podSelector: KubernetesObject
    namespaceSelector: KubernetesObject
    ipBlock: KubernetesObject
