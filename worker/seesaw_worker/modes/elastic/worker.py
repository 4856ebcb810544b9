"""vLLM's worker as one rank of an elastic instance."""

import os
from pathlib import Path
from typing import Any

from vllm.distributed.parallel_state import get_tp_group
from vllm.platforms import current_platform
from vllm.utils.torch_utils import set_random_seed

from seesaw_worker.modes.elastic import attention
from seesaw_worker.modes.elastic.peers import Purpose, peers_on
from seesaw_worker.modes.elastic.runner import TaskRunner
from seesaw_worker.modes.elastic.settings import InstanceSettings
from seesaw_worker.modes.elastic.tasks import Task, TaskResult
from seesaw_worker.modes.elastic.weights import adopt, publish
from seesaw_worker.processes.forking import bind_to_cores
from seesaw_worker.upstream import patches

if current_platform.is_cpu():
    from vllm.v1.worker.cpu_worker import CPUWorker as BaseWorker
else:
    from vllm.v1.worker.gpu_worker import Worker as BaseWorker


class ElasticWorker(BaseWorker):
    """Primitives for the executor, by ``collective_rpc``.

    Call order: ``elastic_share_weights`` once, if they are to be shared; ``elastic_prepare`` once,
    when the KV memory is there; ``elastic_connect`` then, and after an iteration that has failed;
    ``elastic_count_anew`` after the warm-up;
    ``elastic_run`` for each task; ``elastic_info`` between tasks.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        attention.register()
        self._settings = InstanceSettings.of(self.vllm_config.additional_config)
        self._tasks: TaskRunner | None = None
        patches.spin_when_idle(False)
        if self._settings.cores:
            bind_to_cores(self._settings.cores[self.rank])

    def load_model(self, *, load_dummy_weights: bool = False) -> None:
        if self._settings.weights_folder:
            patches.keep_plain_weights()
        super().load_model(load_dummy_weights=load_dummy_weights)

    def elastic_share_weights(self) -> int:
        """Share the weights with the same rank of other instances. Returns the bytes shared.

        The first instance must have done so before any other. Raises: CapacityError.
        """
        settings = self._settings
        path = Path(settings.weights_folder) / f"arena-{get_tp_group().rank_in_group}"
        share = adopt if settings.number else publish
        return share(self.model_runner.model, path)

    def elastic_prepare(self) -> None:
        """Get ready for tasks."""
        settings = self._settings
        # Two instances must not draw the same random numbers for requests without a seed.
        set_random_seed(self.model_config.seed + settings.number)
        peers = peers_on(self.device, settings.number, settings.peer_timeout_s)
        self._tasks = TaskRunner(self.vllm_config, self.model_runner, settings.number, peers)

    def elastic_connect(self, others: list[int], rendezvous: str) -> None:
        """Connect with the same rank of other instances. Raises: PeerError."""
        assert self._tasks is not None, "elastic_prepare comes first"
        rank = get_tp_group().rank_in_group
        self._tasks.peers.connect(others, Path(f"{rendezvous}-{rank}"))

    def elastic_count_anew(self) -> None:
        """Count what is sent from now on, without the warm-up."""
        assert self._tasks is not None, "elastic_prepare comes first"
        self._tasks.peers.sent_bytes.update(dict.fromkeys(Purpose, 0))

    def elastic_run(self, task: Task) -> TaskResult:
        """Carry out an instance's task of an iteration. Raises: PeerError."""
        assert self._tasks is not None, "elastic_prepare comes first"
        result: TaskResult = self._tasks.run(task)
        return result

    def elastic_info(self) -> dict[str, Any]:
        """Facts of this rank: process, slots, requests that it knows, bytes sent by purpose."""
        assert self._tasks is not None, "elastic_prepare comes first"
        slots = self._tasks.slots
        sent = self._tasks.peers.sent_bytes
        return {
            "pid": os.getpid(),
            "instance": self._settings.number,
            "rank": self.rank,
            "num_slots": slots.num_slots,
            "free_slots": slots.num_free,
            "holders": list(slots),
            "known": len(self._tasks.sampler),
            "sent_bytes": {purpose.name.lower(): number for purpose, number in sent.items()},
        }
