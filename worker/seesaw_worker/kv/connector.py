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

The decode engine releases each entry exactly once a request: after its load on all ranks, or
when it turns out that the request will never load it. A preempted request is recomputed.
"""

import queue
import threading
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorMetadata,
    KVConnectorRole,
)
from vllm.model_executor.models.utils import extract_layer_index

from seesaw_core.blocks import num_blocks_for
from seesaw_core.errors import IntegrityError
from seesaw_core.placement import KvShard, place_kv
from seesaw_worker.control import Role
from seesaw_worker.devices import current_device
from seesaw_worker.engine.settings import EngineSettings
from seesaw_worker.kv.buffer import KvBuffer, as_pages
from seesaw_worker.kv.transfer import BlockCopy, BufferTicket, Progress, ProgressSender, StepCopies

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

    worker_side: ClassVar["_Pages | None"] = None

    def __init__(
        self,
        vllm_config: "VllmConfig",
        role: KVConnectorRole,
        kv_cache_config: "KVCacheConfig",
    ) -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        settings = EngineSettings.of(vllm_config.additional_config)
        self._pages: _Pages | None = None
        self._plans: _SavePlans | _LoadPlans | None = None
        if role is KVConnectorRole.WORKER:
            rank = vllm_config.parallel_config.rank
            self._pages = type(self).worker_side = _Pages(settings, rank)
        elif settings.role is Role.PREFILL:
            self._plans = _SavePlans(settings)
        else:
            self._plans = _LoadPlans(settings)

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
        if isinstance(self._plans, _LoadPlans):
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
        if isinstance(self._plans, _LoadPlans):
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
        if isinstance(self._plans, _LoadPlans):
            self._plans.close()

    def _step(self) -> StepCopies:
        step = self._get_connector_metadata()
        assert isinstance(step, StepCopies)
        return step


class _SavePlans:
    """The prefill engine's scheduler half: which blocks each step has filled."""

    def __init__(self, settings: EngineSettings) -> None:
        self._block_size = settings.block_size
        self._tickets: dict[str, BufferTicket] = {}

    def match(self, request: "Request", num_computed_tokens: int) -> tuple[int, bool]:
        return 0, False

    def admit(self, request: "Request", pool_blocks: list[int], num_external: int) -> None:
        ticket = BufferTicket.of(request.kv_transfer_params)
        if ticket is not None:
            self._tickets[request.request_id] = ticket

    def take_step(self, scheduler_output: "SchedulerOutput") -> StepCopies:
        """Blocks that this step completes or extends; all of them at a request's first step.

        The first step covers what the local prefix cache had, and what a preempted request
        had saved before its blocks were taken away.
        """
        block_state = scheduler_output.kv_connector_block_state
        assert block_state is not None
        computed = {
            r.req_id: (r.num_computed_tokens, True) for r in scheduler_output.scheduled_new_reqs
        }
        cached = scheduler_output.scheduled_cached_reqs
        for request_id, num_computed in zip(
            cached.req_ids, cached.num_computed_tokens, strict=True
        ):
            computed[request_id] = (num_computed, request_id in cached.resumed_req_ids)
        step = StepCopies()
        for request_id, num_new in scheduler_output.num_scheduled_tokens.items():
            ticket = self._tickets.get(request_id)
            tables = block_state.get_block_ids(request_id)
            if ticket is None or tables is None:
                continue
            num_computed, is_first = computed[request_id]
            start = 0 if is_first else num_computed // self._block_size
            known = min(num_computed + num_new, ticket.num_tokens)
            stop = num_blocks_for(known, self._block_size)
            if start < stop:
                step.saves.append(
                    BlockCopy(
                        request_id=request_id,
                        buffer_blocks=ticket.blocks[start:stop],
                        pool_blocks=tuple(tables[0][start:stop]),
                    )
                )
        return step

    def finished(self, request_id: str) -> None:
        self._tickets.pop(request_id, None)


class _LoadPlans:
    """The decode engine's scheduler half: who loads what, and when an entry is done with."""

    def __init__(self, settings: EngineSettings) -> None:
        self._block_size = settings.block_size
        self._sender = ProgressSender(settings.socket_path)
        self._unreleased: dict[str, BufferTicket] = {}
        self._loading: set[str] = set()
        self._planned: list[BlockCopy] = []

    def new(self, request: "Request") -> None:
        ticket = BufferTicket.of(request.kv_transfer_params)
        if ticket is not None:
            self._unreleased[request.request_id] = ticket

    def match(self, request: "Request", num_computed_tokens: int) -> tuple[int, bool]:
        ticket = self._unreleased.get(request.request_id)
        if ticket is None or request.num_preemptions:
            return 0, False
        external = max(ticket.num_tokens - num_computed_tokens, 0)
        return external, external > 0

    def admit(self, request: "Request", pool_blocks: list[int], num_external: int) -> None:
        request_id = request.request_id
        ticket = self._unreleased.get(request_id)
        if ticket is None or request_id in self._loading:
            return
        if not num_external:
            self._release(request_id)  # the local prefix cache has it all
            return
        start = (ticket.num_tokens - num_external) // self._block_size
        stop = num_blocks_for(ticket.num_tokens, self._block_size)
        self._loading.add(request_id)
        self._sender.send(Progress.LOADING, ticket.key)
        self._planned.append(
            BlockCopy(
                request_id=request_id,
                buffer_blocks=ticket.blocks[start:stop],
                pool_blocks=tuple(pool_blocks[start:stop]),
            )
        )

    def take_step(self, scheduler_output: "SchedulerOutput") -> StepCopies:
        step = StepCopies(loads=self._planned)
        self._planned = []
        return step

    def loaded(self, request_id: str) -> None:
        self._loading.discard(request_id)
        self._release(request_id)

    def finished(self, request_id: str) -> None:
        """A load that is under way ends by itself; :meth:`loaded` releases its entry."""
        if request_id not in self._loading:
            self._release(request_id)

    def close(self) -> None:
        self._sender.close()

    def _release(self, request_id: str) -> None:
        ticket = self._unreleased.pop(request_id, None)
        if ticket is not None:
            self._sender.send(Progress.RELEASED, ticket.key)


class _Pages:
    """The workers' half: copies between this rank's pages and the buffer."""

    def __init__(self, settings: EngineSettings, rank: int) -> None:
        self._settings = settings
        self._shard: KvShard = place_kv(settings.layout, settings.shape)[rank]
        self._device = current_device()
        self._buffer = KvBuffer(
            settings.buffer_path,
            self._device,
            num_layers=settings.shape.num_layers,
            num_kv_heads=settings.shape.num_kv_heads,
            page_bytes=settings.page_bytes,
        )
        self._pools: dict[str, tuple[int, torch.Tensor]] = {}
        self._jobs: queue.SimpleQueue[BlockCopy] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._loaded: set[str] = set()
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def register(self, kv_caches: dict[str, torch.Tensor]) -> None:
        """Find this rank's pages. Raises: IntegrityError if they are not as placed."""
        heads = len(self._shard.heads)
        for name, layer_kv in kv_caches.items():
            pages = as_pages(layer_kv, num_heads=heads, page_bytes=self._settings.page_bytes)
            self._pools[name] = (extract_layer_index(name), pages)
        layers = sorted(layer for layer, _ in self._pools.values())
        expected = list(range(self._shard.layers.start, self._shard.layers.stop))
        if layers != expected:
            raise IntegrityError(f"this rank holds layers {layers}, but was placed {expected}")

    def save(self, layer_name: str, saves: list[BlockCopy]) -> None:
        if not saves or not self._shard.writes:
            return
        start = time.perf_counter()
        layer, pool = self._pools[layer_name]
        for copy in saves:
            self._buffer.save(
                pool,
                layer=layer,
                shard=self._shard,
                pool_blocks=copy.pool_blocks,
                buffer_blocks=copy.buffer_blocks,
            )
        self._seconds["save"] += time.perf_counter() - start

    def start_loads(self, loads: list[BlockCopy]) -> None:
        if loads and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="seesaw-kv-load", daemon=True)
            self._thread.start()
        for copy in loads:
            self._jobs.put(copy)

    def take_loaded(self) -> set[str]:
        """Requests whose loads have ended since the last call."""
        with self._lock:
            loaded, self._loaded = self._loaded, set()
            failure = self._failure
        if failure is not None:
            raise IntegrityError("loading KV from the buffer failed") from failure
        return loaded

    def synchronize(self) -> None:
        self._device.synchronize()

    def seconds(self) -> dict[str, float]:
        """Seconds spent copying so far, by direction."""
        return dict(self._seconds)

    def _run(self) -> None:
        while True:
            copy = self._jobs.get()
            try:
                self._load(copy)
            except BaseException as error:  # noqa: BLE001 - raised by the next step, which stops the engine
                with self._lock:
                    self._failure = error
                return
            with self._lock:
                self._loaded.add(copy.request_id)

    def _load(self, copy: BlockCopy) -> None:
        start = time.perf_counter()
        for layer, pool in self._pools.values():
            self._buffer.load(
                pool,
                layer=layer,
                shard=self._shard,
                buffer_blocks=copy.buffer_blocks,
                pool_blocks=copy.pool_blocks,
            )
        self._device.synchronize()
        self._seconds["load"] += time.perf_counter() - start
