"""The operator's settings: read once from the command line, then only passed down."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from seesaw_core.errors import InputError
from seesaw_flags.logs import LogSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """The images of pods, where a resource names none.

    worker: workers on accelerators.
    worker_cpu: workers where ``resourceName`` is ``cpu``.
    router: routers.
    pull_policy: the imagePullPolicy of all of them.
    pull_secrets: names of Secrets in the resource's namespace.
    """

    worker: str
    worker_cpu: str
    router: str
    pull_policy: str = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Timeouts of pods and rollouts. Units: seconds, at least 1.

    pre_stop_s: how long a terminating pod keeps accepting requests, while routers and proxies learn
        that it terminates.
    drain_s: how long the pod may then take to finish its running requests.
    start_s: how long a worker may take until its server answers. Loading the model is not included.
    progress_s: how long a rollout may make no progress before the resource is ``Stalled``.
    """

    pre_stop_s: int = 5
    drain_s: int = 600
    start_s: int = 600
    progress_s: int = 1800

    def __post_init__(self) -> None:
        for name in ("pre_stop_s", "drain_s", "start_s", "progress_s"):
            _check(name, getattr(self, name), at_least=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorSettings:
    """The settings of an operator.

    images, timing: the settings of the pods.
    namespaces: where to watch resources; empty for all namespaces.
    lease_namespace, lease_name: the Lease that one operator at a time holds.
    measure_every_s: how often workers are polled for their state and metrics.
    resync_s: how often all resources are reconciled, even if nothing has changed.
    port: the port of ``/healthz`` and ``/metrics``.
    log: what is logged, and in which format.
    profiles: a file with the profiles that resources may name.

    Raises: InputError if a figure is out of range.
    """

    images: Images
    timing: Timing
    lease_namespace: str
    namespaces: tuple[str, ...] = ()
    lease_name: str = "seesaw-operator"
    measure_every_s: float = 5.0
    resync_s: float = 300.0
    port: int = 8080
    log: LogSettings = field(default_factory=LogSettings)
    profiles: Path | None = None

    @property
    def operator(self) -> str:
        """The operator's name in the cluster: that of its Lease."""
        return f"{self.lease_namespace}/{self.lease_name}"

    def __post_init__(self) -> None:
        _check("measure_every_s", self.measure_every_s, at_least=0.1)
        _check("resync_s", self.resync_s, at_least=1)
        if not 0 < self.port < 65536:
            raise InputError(f"--port={self.port}: must be from 1 to 65535")


def _check(name: str, value: float, *, at_least: float) -> None:
    if not at_least <= value < math.inf:
        flag = "--" + name.replace("_", "-")
        raise InputError(f"{flag}={value}: must be at least {at_least}")
