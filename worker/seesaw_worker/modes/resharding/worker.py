"""vLLM's workers, which run a step only on a device that their engine owns.

vLLM synchronises the devices when a pause of an engine completes, so a rank gives its device up
there. :meth:`SeesawWorker.seesaw_acquire` takes the device and fills the arena.
"""

import os
import time
from typing import TYPE_CHECKING, Any

from vllm.platforms import current_platform

from seesaw_worker.modes.resharding.kv.connector import SeesawConnector
from seesaw_worker.modes.resharding.weights.loader import SharedArenaLoader
from seesaw_worker.processes.control_page import ControlPage
from seesaw_worker.processes.forking import bind_to_cores
from seesaw_worker.settings.engine import EngineSettings, WeightsMode
from seesaw_worker.upstream import patches

if current_platform.is_cpu():
    from vllm.v1.worker.cpu_worker import CPUWorker as BaseWorker
else:
    from vllm.v1.worker.gpu_worker import Worker as BaseWorker

if TYPE_CHECKING:
    from vllm.v1.core.sched.output import SchedulerOutput


_GIVEN_UP_POLL_S = 0.0002


class SeesawWorker(BaseWorker):
    """One rank of one engine.

    The controller calls by ``collective_rpc``: ``seesaw_acquire`` once per transition,
    ``seesaw_info`` and ``seesaw_digests`` at any time.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._settings = EngineSettings.of(self.vllm_config.additional_config)
        self._role = self._settings.role
        self._control = ControlPage(self._settings.folder, self._settings.layout.num_devices)
        self._fresh = False
        self._is_warming_up = False
        self._stepped_ns = time.monotonic_ns()
        bind_to_cores(self._settings.cores[self.rank])

    def load_model(self, *, load_dummy_weights: bool = False) -> None:
        if self._settings.weights is WeightsMode.SHARED:
            patches.keep_plain_weights()
        super().load_model(load_dummy_weights=load_dummy_weights)
        if self._settings.weights is WeightsMode.RESIDENT:
            self._control.set_loaded(self.rank, self._role, 0)
        patches.make_stage_inputs(self.model_runner)

    def compile_or_warm_up_model(self) -> Any:
        """Warm up before an engine owns the device. vLLM's second runner does so by whole steps.

        The tokens of these steps are not used, so the arena may hold the other engine's weights.
        """
        self._is_warming_up = True
        try:
            return super().compile_or_warm_up_model()
        finally:
            self._is_warming_up = False

    def execute_model(self, scheduler_output: "SchedulerOutput") -> Any:
        if self._is_warming_up or not scheduler_output.total_num_scheduled_tokens:
            return super().execute_model(scheduler_output)
        self._control.require(self.rank, self._role)
        if self._fresh:
            self._control.first_step_begun(self.rank, self._role)
            self._fresh = False
        output = super().execute_model(scheduler_output)
        self._stepped_ns = time.monotonic_ns()
        return output

    def sample_tokens(self, grammar_output: Any) -> Any:
        output = super().sample_tokens(grammar_output)
        self._stepped_ns = time.monotonic_ns()
        return output

    def synchronize_device(self) -> None:
        """End the running steps and give the device up. On the CPU a step ends as it returns."""
        super().synchronize_device()
        ended_ns = self._stepped_ns if current_platform.is_cpu() else time.monotonic_ns()
        self._control.step_ended(self.rank, self._role, ended_ns)
        patches.spin_when_idle(False)
        self._control.give_up(self.rank, self._role)

    def seesaw_acquire(self) -> tuple[int, float]:
        """Take the device and fill its arena. Returns the bytes copied and the seconds it took.

        Waits until the other engine gives the device up. Requires: that engine has been asked to
        pause.
        """
        while self._control.owner(self.rank) is self._role.other:
            time.sleep(_GIVEN_UP_POLL_S)
        start = time.perf_counter()
        self._control.take(self.rank, self._role)
        patches.spin_when_idle(True)
        replay = SharedArenaLoader.replay
        copied = 0
        needed = self._settings.always_replay or not self._control.same_weights(self.rank)
        if replay is not None and needed:
            copied = replay.run()
        self._fresh = True
        return copied, time.perf_counter() - start

    def seesaw_info(self) -> dict[str, Any]:
        """Return facts of this rank: its process, what its replay moves, and its KV copies."""
        replay = SharedArenaLoader.replay
        summary = replay.summary if replay else None
        connector = SeesawConnector.worker_side
        return {
            "pid": os.getpid(),
            "rank": self.rank,
            "replay": {f: getattr(summary, f) for f in summary.__slots__} if summary else None,
            "kv_seconds": connector.seconds() if connector else None,
        }

    def seesaw_digests(self) -> str | None:
        """Return the SHA-256 of this rank's weights in the arena, or None if it has none there."""
        replay = SharedArenaLoader.replay
        return replay.checksum() if replay else None

    def seesaw_memcpy_s(self) -> tuple[int, float]:
        """Time a plain copy of as many bytes as a replay moves, then restore the arena.

        This is the physical limit to which a transition is compared. Requires: ownership.
        """
        self._control.require(self.rank, self._role)
        replay = SharedArenaLoader.replay
        return replay.time_memcpy(self.rank) if replay else (0, 0.0)
