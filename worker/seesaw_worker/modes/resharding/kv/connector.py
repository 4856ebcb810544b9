"""vLLM's KV connector to the buffer: the prefill engine saves, the decode engine loads.

Scheduler half, in the engine-core process:
    get_num_new_matched_tokens   any number of times per request; reports what the buffer holds
    update_state_after_alloc     once blocks are allocated; schedules the load, if there is one
    build_connector_meta         once per step; passes the copies of the step to the workers
    update_connector_output      after a step; reports the loads that every rank has finished
    request_finished             once per request; releases a ticket that was never loaded
Worker half, in each rank:
    register_kv_caches           once; finds the rank's pages in vLLM's pool
    save_kv_layer                once per layer and step, right after the attention of the layer
    start_load_kv, get_finished  once per step; loads run in a thread of their own
"""

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorMetadata,
    KVConnectorRole,
)

from seesaw_worker.modes.resharding.attention import REQUIRED_LAYOUT
from seesaw_worker.modes.resharding.kv.pages import Pages
from seesaw_worker.modes.resharding.kv.schedules import LoadSchedule, SaveSchedule
from seesaw_worker.modes.resharding.kv.transfer import StepCopies
from seesaw_worker.processes.control_page import Role
from seesaw_worker.settings.engine import EngineSettings

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.forward_context import ForwardContext
    from vllm.v1.attention.backend import AttentionMetadata
    from vllm.v1.core.kv_cache_manager import KVCacheBlocks
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.kv_cache_interface import KVCacheConfig
    from vllm.v1.outputs import KVConnectorOutput
    from vllm.v1.request import Request


class SeesawConnector(KVConnectorBase_V1):
    """The connector that vLLM creates in each process. It passes calls to the half of the process.

    ``worker_side`` is the worker half of this process, for the worker's own reports.
    """

    worker_side: ClassVar[Pages | None] = None

    def __init__(
        self,
        vllm_config: "VllmConfig",
        role: KVConnectorRole,
        kv_cache_config: "KVCacheConfig",
    ) -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        settings = EngineSettings.of(vllm_config.additional_config)
        self._pages: Pages | None = None
        self._schedule: SaveSchedule | LoadSchedule | None = None
        if role is KVConnectorRole.WORKER:
            rank = vllm_config.parallel_config.rank
            self._pages = type(self).worker_side = Pages(settings, rank)
        elif settings.role is Role.PREFILL:
            self._schedule = SaveSchedule(settings)
        else:
            prefix_caching = bool(vllm_config.cache_config.enable_prefix_caching)
            self._schedule = LoadSchedule(settings, prefix_caching=prefix_caching)

    @classmethod
    def get_required_kvcache_layout(
        cls,
        vllm_config: "VllmConfig",  # noqa: ARG003 - the same for every model
    ) -> str | None:
        """Return the layout with heads before tokens in a block, so that a page is contiguous.

        Attention backends on GPUs take any layout; vLLM would choose one with tokens first.
        """
        return REQUIRED_LAYOUT

    # ---- scheduler half

    def get_num_new_matched_tokens(
        self, request: "Request", num_computed_tokens: int
    ) -> tuple[int | None, bool]:
        assert self._schedule is not None
        return self._schedule.match(request, num_computed_tokens)

    def update_state_after_alloc(
        self, request: "Request", blocks: "KVCacheBlocks", num_external_tokens: int
    ) -> None:
        assert self._schedule is not None
        self._schedule.admit(request, blocks.get_block_ids()[0], num_external_tokens)

    def build_connector_meta(self, scheduler_output: "SchedulerOutput") -> KVConnectorMetadata:
        assert self._schedule is not None
        return self._schedule.take_step(scheduler_output)

    def update_connector_output(self, connector_output: "KVConnectorOutput") -> None:
        if isinstance(self._schedule, LoadSchedule):
            for request_id in connector_output.finished_recving or ():
                self._schedule.loaded(request_id)

    def request_finished(
        self, request: "Request", block_ids: list[int]
    ) -> tuple[bool, dict[str, Any] | None]:
        assert self._schedule is not None
        self._schedule.finished(request.request_id)
        return False, None

    def get_loaded_kv_cache_group_ids(self, request: "Request") -> tuple[int, ...]:
        """Return the one KV cache group. Loads fill whole blocks, so vLLM need not zero them."""
        return (0,)

    def on_new_request(self, request: "Request") -> None:
        if isinstance(self._schedule, LoadSchedule):
            self._schedule.new(request)

    def reset_cache(self) -> bool | None:
        return True  # the buffer keeps KV only for the requests that it was written for

    # ---- worker half

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        assert self._pages is not None
        self._pages.register(kv_caches)

    def save_kv_layer(
        self,
        layer_name: str,
        kv_layer: torch.Tensor,
        attn_metadata: "AttentionMetadata",
        **kwargs: Any,
    ) -> None:
        assert self._pages is not None
        self._pages.save(layer_name, self._step().saves)

    def start_load_kv(self, forward_context: "ForwardContext", **kwargs: Any) -> None:
        assert self._pages is not None
        self._pages.start_loads(self._step().loads)

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Do nothing: a request is scheduled only after its load has ended."""

    def wait_for_save(self) -> None:
        assert self._pages is not None
        if self._step().saves:
            self._pages.synchronize()

    def get_finished(self, finished_req_ids: set[str]) -> tuple[set[str] | None, set[str] | None]:
        assert self._pages is not None
        return None, self._pages.take_loaded() or None

    def shutdown(self) -> None:
        if isinstance(self._schedule, LoadSchedule):
            self._schedule.close()

    def _step(self) -> StepCopies:
        step = self._get_connector_metadata()
        assert isinstance(step, StepCopies)
        return step
