"""The worker's settings, which are read once from the command line and then passed down."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from seesaw_core.errors import InputError
from seesaw_core.layouts import Layout
from seesaw_core.resharding.policy import PhasePolicy, Reshard
from seesaw_worker.processes.stalls import StallBounds
from seesaw_worker.settings.engine import WeightsMode
from seesaw_worker.settings.planning import Parallelism, Planning


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """The settings that Seesaw adds to vLLM's.

    prefill, decode: the two layouts, over the same devices.
    kv_buffer_gib: shared memory for prompts' KV between the engines, in GiB.
    shm_dir: memory-backed folder for the buffer and the weights arenas.
    policy: when to re-shard.
    weights: one arena per device for both engines, or each engine's own copy.
    verify_kv: compare every page of KV on arrival with what was computed.
    always_replay: fill the arenas at each transition even if their bytes stay the same.
    drain_timeout_s: how long running requests have to finish after SIGTERM, in seconds.
    stall: when a step that does not end makes the worker unhealthy, and when it ends the worker.
    elastic_instances: how many instances of one engine form groups; 0 for no elastic mode.
    elastic_timeout_s: how long an iteration of a group may take, in seconds.
    planning: whether the worker chooses the layouts itself, and for which workload.

    Raises: InputError if a figure is out of range.
    """

    prefill: Layout
    decode: Layout
    kv_buffer_gib: float
    shm_dir: Path
    policy: PhasePolicy
    weights: WeightsMode
    drain_timeout_s: float
    verify_kv: bool = False
    stall: StallBounds = field(default_factory=StallBounds)
    always_replay: bool = False
    elastic_instances: int = 0
    elastic_timeout_s: float = 120.0
    planning: Planning = field(default_factory=Planning)

    def __post_init__(self) -> None:
        if not 0 < self.kv_buffer_gib < math.inf:
            raise InputError(f"--kv-buffer-gib must be above 0, got {self.kv_buffer_gib}")
        if not 0 <= self.drain_timeout_s < math.inf:
            raise InputError(f"--drain-timeout-s must not be negative, got {self.drain_timeout_s}")

    @property
    def reshard(self) -> Reshard:
        return self.policy.reshard

    @property
    def is_planned(self) -> bool:
        return self.planning.parallelism is Parallelism.AUTO
