"""The chart's values: each with its type, its default and what it means.

``values.yaml``, ``values.schema.json`` and the chart's README are made of these models.
"""

from typing import Literal

from pydantic import Field

from seesaw_generate.chart.kinds import (
    UNIQUE,
    Annotations,
    Count,
    CountOrPercent,
    ImagePrefix,
    Labels,
    Name,
    NamePart,
    Namespace,
    NotEmpty,
    Seconds,
    ServiceName,
    Tag,
)
from seesaw_generate.chart.monitoring import Monitoring
from seesaw_generate.chart.network import NetworkPolicy
from seesaw_generate.chart.part import KubernetesObject, Part
from seesaw_generate.chart.pod import (
    Affinity,
    EnvSource,
    EnvVariable,
    Resources,
    Spread,
    Toleration,
)
from seesaw_operator.api.field_types import Image, ObjectName


class ImageValues(Part):
    """What pods run."""

    prefix: ImagePrefix = Field(
        default="", description="Put before each repository, such as registry.example.com/team/"
    )
    operator: Image = Field(default="seesaw-operator", description="The operator.")
    router: Image = Field(default="seesaw-router", description="Routers.")
    worker: Image = Field(default="seesaw-worker", description="Workers on accelerators.")
    worker_cpu: Image = Field(
        default="seesaw-worker-cpu", description="Workers with accelerator.resourceName: cpu."
    )
    tag: Tag = Field(
        default="",
        description="Or a digest, such as sha256:…. Text: quote what looks like a number. Default: "
        "the chart's appVersion.",
    )
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(
        default="IfNotPresent", description="Of all of them."
    )
    pull_secrets: list[ObjectName] = Field(
        default=[],
        json_schema_extra=UNIQUE,
        description="Names of Secrets, in the operator's namespace and in those of the resources.",
    )


class Crd(Part):
    """The CustomResourceDefinition."""

    install: bool = Field(
        default=True, description="Install and upgrade it. It stays when the release goes."
    )
    annotations: Annotations = Field(
        default={}, description="Such as argocd.argoproj.io/sync-options: Delete=false,Prune=false."
    )


class Rbac(Part):
    """What the operator may do."""

    create: bool = Field(
        default=True,
        description="Make the operator's roles and their bindings. If not, somebody else must.",
    )


class TimingValues(Part):
    """How patient the operator and the pods that it makes are."""

    pre_stop_seconds: Seconds = Field(
        default=5,
        description="How long a pod that is to go keeps serving, while others learn of it.",
    )
    drain_seconds: Seconds = Field(
        default=600, description="How long it then may finish what it has begun."
    )
    start_seconds: Seconds = Field(
        default=600,
        description="How long a worker has until it answers at all; loading and downloading come "
        "after that.",
    )
    progress_seconds: Seconds = Field(
        default=1800,
        description="How long nothing may move while something is to be done, before a resource "
        "is Stalled.",
    )
    measure_every_seconds: Seconds = Field(
        default=5, description="How often workers are asked what they do."
    )
    resync_seconds: Seconds = Field(
        default=300, description="How often everything is compared again, whatever happened."
    )


class LogValues(Part):
    """The operator's log."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least serious messages that are logged."
    )
    format: Literal["text", "json"] = Field(
        default="text", description="Lines for people, or one JSON object a line."
    )


class DisruptionBudget(Part):
    """How many operators may go at once."""

    enabled: bool = Field(
        default=True, description="Make a PodDisruptionBudget if there are two replicas or more."
    )
    max_unavailable: CountOrPercent = Field(default=1, description="A number or a percentage.")


class OperatorValues(Part):
    """The operator's own pods."""

    replicas: Count = Field(
        default=1, description="One leads, by a Lease; the others wait to take over."
    )
    pod_disruption_budget: DisruptionBudget = Field(
        default=DisruptionBudget(), description="For when nodes are drained."
    )
    resources: Resources = Field(
        default=Resources(requests={"cpu": "50m", "memory": "128Mi"}, limits={"memory": "512Mi"}),
        description="What it takes is told in docs/benchmarks.md, The operator.",
    )
    extra_args: list[NotEmpty] = Field(
        default=[], description="Flags of `seesaw operator` that no value here stands for."
    )
    extra_env: list[EnvVariable] = Field(
        default=[],
        description="Environment variables, as of any container. HTTPS_PROXY and NO_PROXY are "
        "about the apiserver; pods are asked directly.",
    )
    env_from: list[EnvSource] = Field(
        default=[], description="Secrets and ConfigMaps to take variables from."
    )
    pod_security_context: KubernetesObject = Field(
        default={
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        description="For OpenShift, set runAsUser and runAsGroup to null: it chooses them.",
    )
    security_context: KubernetesObject = Field(
        default={
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        description="Of the container.",
    )
    priority_class_name: Name = Field(
        default="", description="Such as system-cluster-critical; default: the cluster's own."
    )
    node_selector: Labels = Field(default={}, description="As of any pod.")
    tolerations: list[Toleration] = Field(default=[], description="As of any pod.")
    affinity: Affinity = Field(default=Affinity(), description="As of any pod.")
    topology_spread_constraints: list[Spread] = Field(
        default=[],
        description="Without a labelSelector it is about these pods. Default with two replicas or "
        "more: on different nodes where that can be.",
    )
    pod_labels: Labels = Field(default={}, description="Added to the pods' own.")
    pod_annotations: Annotations = Field(default={}, description="As of any pod.")


class ServiceAccount(Part):
    """Who the operator is to the apiserver."""

    create: bool = Field(default=True, description="Make it.")
    name: Name = Field(
        default="",
        description="Default: the release's full name; where it is not made, 'default'.",
    )
    annotations: Annotations = Field(default={}, description="Of the one that is made.")


class TemplateValues(Part):
    """What pods of one component get."""

    pod_template: KubernetesObject = Field(
        default={}, description="As the resource's field of that name."
    )


class ProfileValues(Part):
    """What resources that name it share."""

    engine: TemplateValues = Field(default=TemplateValues(), description="Workers.")
    router: TemplateValues = Field(default=TemplateValues(), description="Routers.")


class Values(Part):
    """All values of the chart."""

    name_override: NamePart = Field(
        default="", description="In place of the chart's name, in names of objects."
    )
    fullname_override: ServiceName = Field(
        default="", description="In place of release and chart name, in names of objects."
    )
    namespace_override: NamePart = Field(
        default="", description="In place of the release's namespace."
    )
    common_labels: Labels = Field(
        default={}, description="Added to all objects and to the operator's pods."
    )
    common_annotations: Annotations = Field(default={}, description="Added to all objects.")
    images: ImageValues = Field(
        default=ImageValues(),
        description="What pods run. A name may have its own tag or digest, such as "
        "seesaw-router@sha256:…, and its own host; a resource may name its own image.",
    )
    crd: Crd = Field(default=Crd(), description="The CustomResourceDefinition.")
    rbac: Rbac = Field(default=Rbac(), description="What the operator may do.")
    aggregate_roles: bool = Field(
        default=True,
        description="Let whoever may view or edit a namespace view or edit its SeesawDeployments.",
    )
    watch_namespaces: list[Namespace] = Field(
        default=[],
        json_schema_extra=UNIQUE,
        description="Namespaces in which SeesawDeployments are looked after; empty for all.",
    )
    timing: TimingValues = Field(
        default=TimingValues(), description="How patient the operator and its pods are, in seconds."
    )
    profiles: dict[ObjectName, ProfileValues] = Field(
        default={},
        description="By name, pod templates that many SeesawDeployments share: "
        "{NAME: {engine: {podTemplate: …}, router: {podTemplate: …}}}. A resource takes one with "
        "spec.profile: docs/kubernetes.md, Shared by many resources.",
    )
    log: LogValues = Field(default=LogValues(), description="The operator's log.")
    operator: OperatorValues = Field(
        default=OperatorValues(), description="The operator's own pods."
    )
    service_account: ServiceAccount = Field(
        default=ServiceAccount(), description="Who the operator is to the apiserver."
    )
    monitoring: Monitoring = Field(
        default=Monitoring(),
        description="Metrics, alerts and a dashboard: docs/kubernetes.md, Monitoring.",
    )
    network_policy: NetworkPolicy = Field(
        default=NetworkPolicy(), description="Who may talk to whom: docs/kubernetes.md, Network."
    )
