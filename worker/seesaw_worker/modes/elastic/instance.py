"""One instance as an executor of vLLM's: its ranks, its configuration and its share of the pool."""

import copy
import threading
from collections.abc import Callable
from multiprocessing import connection

from vllm.config import VllmConfig
from vllm.platforms import current_platform
from vllm.v1.core.kv_cache_utils import get_kv_cache_config_from_groups
from vllm.v1.executor.multiproc_executor import MultiprocExecutor
from vllm.v1.kv_cache_interface import KVCacheConfig

from seesaw_worker.modes.elastic.settings import InstanceSettings


class Instance(MultiprocExecutor):
    """One instance's ranks."""

    on_loss: Callable[[], None] | None = None

    def start_worker_monitor(self, inline: bool = False) -> None:
        """Give the instance up as soon as one of its processes has died."""
        threading.Thread(target=self._watch, name="seesaw-instance", daemon=True).start()

    def lose(self) -> None:
        """End all processes at once. Calls that wait for an answer fail."""
        self.is_failed = True
        for worker in self.workers:
            worker.proc.kill()
        self.shutdown()

    def _watch(self) -> None:
        connection.wait([worker.proc.sentinel for worker in self.workers])
        if not getattr(self, "shutting_down", False):
            self.lose()
            if self.on_loss is not None:
                self.on_loss()


def config_of(config: VllmConfig, settings: InstanceSettings, number: int) -> VllmConfig:
    """Return vLLM's configuration of one instance."""
    config = copy.copy(config)
    parallel = copy.copy(config.parallel_config)
    parallel.distributed_executor_backend = "mp"
    if not current_platform.is_cpu():
        count = settings.num_instances * settings.tensor
        devices = parallel.assigned_physical_gpu_ids or list(range(count))
        first = number * settings.tensor
        parallel.assigned_physical_gpu_ids = devices[first : first + settings.tensor]
    config.parallel_config = parallel
    config.additional_config = settings.of_instance(number).added_to(config.additional_config)
    return config


def share_of(
    whole: KVCacheConfig, config: VllmConfig, memory_bytes: int, num_instances: int
) -> KVCacheConfig:
    """Return the KV memory of one rank, where ``whole`` is that of all instances together."""
    config = copy.copy(config)
    config.cache_config = copy.copy(config.cache_config)
    config.cache_config.num_gpu_blocks_override = whole.num_blocks // num_instances
    share = get_kv_cache_config_from_groups(config, whole.kv_cache_groups, memory_bytes)
    share.kv_cache_layout = whole.kv_cache_layout
    share.hash_block_size = whole.hash_block_size
    share.cache_hit_alignment_tokens = whole.cache_hit_alignment_tokens
    return share
