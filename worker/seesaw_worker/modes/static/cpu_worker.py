"""vLLM's CPU worker as ``--reshard never`` runs it."""

from typing import Any

from vllm.v1.worker.cpu_worker import CPUWorker

from seesaw_worker.processes.forking import bind_to_cores, divide_cores
from seesaw_worker.upstream.patches import make_stage_inputs


class PlainCpuWorker(CPUWorker):
    """Binds each rank to its share of the cores, and gives later pipeline stages input buffers.

    Forked ranks read OpenMP's environment too late. Without binding, tensor-parallel ranks would
    wait for each other on the same cores, and a step would take six times as long.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        bind_to_cores(divide_cores(self.parallel_config.world_size)[self.rank])

    def load_model(self, *, load_dummy_weights: bool = False) -> None:
        super().load_model(load_dummy_weights=load_dummy_weights)
        make_stage_inputs(self.model_runner)
