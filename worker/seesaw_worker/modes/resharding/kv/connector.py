"""vLLM's KV connector to the buffer: the prefill engine saves, the decode engine loads.

Scheduler's half, in the engine-core process:
    get_num_new_matched_tokens   any number of times a request; promises what the buffer holds
    update_state_after_alloc     once blocks are allocated; plans the load, or none
    build_connector_meta         once a step; hands the step's copies to the workers
    update_connector_output      after a step; loads that every rank has finished
    request_finished             once a request; gives up what was never loaded
Workers' half, one a rank:
    register_kv_caches           once; finds the rank's pages in vLLM's pool
    save_kv_layer                once a layer and step, right after the layer's attention
    start_load_kv, get_finished  once a step; loads run in a thread of their own
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
from seesaw_worker.modes.resharding.kv.plans import LoadPlans, SavePlans
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
    """What vLLM makes in each process; passes on to the half that belongs there."""

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
        self._plans: SavePlans | LoadPlans | None = None
        if role is KVConnectorRole.WORKER:
            rank = vllm_config.parallel_config.rank
            self._pages = type(self).worker_side = Pages(settings, rank)
        elif settings.role is Role.PREFILL:
            self._plans = SavePlans(settings)
        else:
            prefix_caching = bool(vllm_config.cache_config.enable_prefix_caching)
            self._plans = LoadPlans(settings, prefix_caching=prefix_caching)

    @classmethod
    def get_required_kvcache_layout(
        cls,
        vllm_config: "VllmConfig",  # noqa: ARG003 - the same for every model
    ) -> str | None:
        """Heads before tokens in a block, so that a page is one piece.

        The GPU's attentions take any layout, and would else be given one of tokens first.
        """
        return REQUIRED_LAYOUT

    # ---- the scheduler's half

    def get_num_new_matched_tokens(
        self, request: "Request", num_computed_tokens: int
    ) -> tuple[int | None, bool]:
        assert self._plans is not None
        return self._plans.match(request, num_computed_tokens)

    def update_state_after_alloc(
        self, request: "Request", blocks: "KVCacheBlocks", num_external_tokens: int
    ) -> None:
        assert self._plans is not None
        self._plans.admit(request, blocks.get_block_ids()[0], num_external_tokens)

    def build_connector_meta(self, scheduler_output: "SchedulerOutput") -> KVConnectorMetadata:
        assert self._plans is not None
        return self._plans.take_step(scheduler_output)

    def update_connector_output(self, connector_output: "KVConnectorOutput") -> None:
        if isinstance(self._plans, LoadPlans):
            for request_id in connector_output.finished_recving or ():
                self._plans.loaded(request_id)

    def request_finished(
        self, request: "Request", block_ids: list[int]
    ) -> tuple[bool, dict[str, Any] | None]:
        assert self._plans is not None
        self._plans.finished(request.request_id)
        return False, None

    def get_loaded_kv_cache_group_ids(self, request: "Request") -> tuple[int, ...]:
        """Whole blocks are loaded, so vLLM need not zero them first."""
        return (0,)

    def on_new_request(self, request: "Request") -> None:
        if isinstance(self._plans, LoadPlans):
            self._plans.new(request)

    def reset_cache(self) -> bool | None:
        return True  # the buffer keeps nothing beyond the requests it was written for

    # ---- the workers' half

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
        """Loads end before a request is scheduled, so no layer ever waits."""

    def wait_for_save(self) -> None:
        assert self._pages is not None
        if self._step().saves:
            self._pages.synchronize()

    def get_finished(self, finished_req_ids: set[str]) -> tuple[set[str] | None, set[str] | None]:
        assert self._pages is not None
        return None, self._pages.take_loaded() or None

    def shutdown(self) -> None:
        if isinstance(self._plans, LoadPlans):
            self._plans.close()

    def _step(self) -> StepCopies:
        step = self._get_connector_metadata()
        assert isinstance(step, StepCopies)
        return step
