"""What vLLM does where Seesaw leans on it: requests, pauses, loading, ranks."""

import asyncio
import inspect
import multiprocessing
from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from vllm.config.load import LoadConfig
from vllm.model_executor.model_loader import get_model_loader
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader
from vllm.model_executor.models.utils import extract_layer_index
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.utils.torch_utils import STR_DTYPE_TO_TORCH_DTYPE
from vllm.v1.core.sched.interface import PauseState
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreRequest, FinishReason
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.core import EngineCore, EngineCoreProc
from vllm.v1.request import Request

from seesaw_core.layouts import Layout
from seesaw_worker.modes.resharding import requests
from seesaw_worker.modes.resharding.kv.transfer import BufferTicket
from seesaw_worker.modes.resharding.weights.loader import SharedArenaLoader
from seesaw_worker.server.commandline import parse

only_cpu = pytest.mark.skipif(not current_platform.is_cpu(), reason="patches vLLM's CPU backend")


def test_transfer_parameters_reach_the_scheduler_by_extra_args() -> None:
    ticket = BufferTicket(key="k", num_tokens=3, blocks=(4,))
    params = SamplingParams(max_tokens=1, extra_args={requests._TRANSFER: ticket.to_params()})
    request = Request("id", [1, 2, 3], params, None)
    assert BufferTicket.of(request.kv_transfer_params) == ticket


def test_a_prefill_is_a_request_that_vllm_can_encode() -> None:
    from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder

    ticket = BufferTicket(key="k", num_tokens=3, blocks=(4,))
    request = requests.for_prefill(requests.for_warm_up("seesaw-1", 5), ticket)
    decoded = MsgpackDecoder(EngineCoreRequest).decode(MsgpackEncoder().encode(request))
    assert decoded.prompt_token_ids == [1, 0, 1]
    assert BufferTicket.of(decoded.sampling_params.extra_args[requests._TRANSFER]) == ticket
    assert decoded.sampling_params.output_kind is RequestOutputKind.FINAL_ONLY
    assert FinishReason.LENGTH.value is not None


class FakeCore:
    """As much of an engine core as a pause touches."""

    def __init__(self, *, busy: bool) -> None:
        self.busy = busy
        self.calls: list[str] = []
        self.model_executor = SimpleNamespace(collective_rpc=self.calls.append)
        self.scheduler = SimpleNamespace(set_pause_state=self.set_state)
        self._idle_state_callbacks: list[Callable[[Any], None]] = []

    def set_state(self, state: PauseState) -> None:
        self.state = state

    def has_work(self) -> bool:
        return self.busy

    def _pause_complete(self) -> bool:
        return bool(EngineCoreProc._pause_complete(self))

    def _finish_pause(self, clear_cache: bool) -> None:
        EngineCore._finish_pause(self, clear_cache)


def test_a_completed_pause_synchronises_the_devices_where_a_rank_gives_its_device_up() -> None:
    core = FakeCore(busy=False)
    assert EngineCoreProc.pause_scheduler(core, "keep", False) is None
    assert core.calls == ["synchronize_device"]
    assert core.state is PauseState.PAUSED_ALL


def test_a_pause_under_way_completes_only_once_the_engine_is_idle() -> None:
    core = FakeCore(busy=True)
    future = EngineCoreProc.pause_scheduler(core, "keep", False)
    assert isinstance(future, Future)
    assert not core.calls
    assert not future.done()
    for callback in core._idle_state_callbacks:
        callback(core)
    assert core.calls == ["synchronize_device"]
    assert future.done()


def test_a_step_in_flight_counts_as_work() -> None:
    core = SimpleNamespace(
        engines_running=False,
        scheduler=SimpleNamespace(has_requests=lambda: False),
        batch_queue=[1],
    )
    assert EngineCoreProc.has_work(core)


async def test_the_front_end_reads_the_engine_core_that_is_there_when_it_starts_reading() -> None:
    """We put ours in place of vLLM's after construction, in a thread without an event loop."""
    assert "asyncio.get_running_loop()" in inspect.getsource(AsyncLLM.__init__)
    read = asyncio.Event()

    async def get_output_async() -> Any:
        read.set()
        await asyncio.Event().wait()

    renderer = SimpleNamespace(mm_processor_cache=None)
    llm = SimpleNamespace(
        output_handler=None,
        engine_core=SimpleNamespace(get_output_async=get_output_async),
        output_processor=None,
        log_stats=False,
        logger_manager=None,
        renderer=renderer,
    )
    AsyncLLM._run_output_handler(llm)
    task = llm.output_handler
    assert isinstance(task, asyncio.Task)
    await asyncio.wait_for(read.wait(), 5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_an_unknown_load_format_is_refused_and_a_registered_one_is_ours() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        get_model_loader(LoadConfig(load_format="nonsense"))
    from seesaw_worker.modes.resharding.weights.loader import LOAD_FORMAT, register

    register()
    loader = get_model_loader(LoadConfig(load_format=LOAD_FORMAT))
    assert isinstance(loader, SharedArenaLoader)
    assert loader.load_config.load_format == "safetensors"


def test_the_loader_asks_us_for_all_weights() -> None:
    assert "self.get_all_weights(" in inspect.getsource(DefaultModelLoader.load_weights)
    parameters = inspect.signature(DefaultModelLoader.load_model).parameters
    assert list(parameters)[1:3] == ["vllm_config", "model_config"]


def test_parameters_can_be_replaced_as_they_are_registered() -> None:
    from torch.nn.modules.module import register_module_parameter_registration_hook

    place = torch.zeros(4)

    def rebase(module: nn.Module, name: str, parameter: Any) -> None:
        if parameter is not None:
            parameter.data = place[: parameter.numel()].view(parameter.shape)

    handle = register_module_parameter_registration_hook(rebase)
    try:
        layer = nn.Linear(2, 2, bias=False)
    finally:
        handle.remove()
    assert layer.weight.data_ptr() == place.data_ptr()


def test_layers_are_numbered_by_their_names() -> None:
    assert extract_layer_index("model.layers.7.self_attn.attn") == 7


def test_kv_dtypes_have_sizes() -> None:
    assert STR_DTYPE_TO_TORCH_DTYPE["fp8"].itemsize == 1
    assert STR_DTYPE_TO_TORCH_DTYPE["bfloat16"].itemsize == 2


@only_cpu
def test_the_cpu_pool_keeps_each_heads_block_together() -> None:
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend
    from vllm.v1.kv_cache_layout import KVCacheLayout

    # Layers, blocks, heads, tokens, content: a head's block is one contiguous page.
    assert CPUAttentionBackend.supported_kv_cache_layouts() == (KVCacheLayout.LBHNC,)
    assert KVCacheLayout.LBHNC.layer_view_order == (0, 1, 2, 3)
    assert {"auto", "fp8"} <= set(CPUAttentionBackend.supported_kv_cache_dtypes)
    (multiple,) = CPUAttentionBackend.get_supported_kernel_block_sizes()
    assert multiple.base == 32


def test_the_command_line_has_the_arguments_that_we_read() -> None:
    args = parse(["some/model"])
    for name in (
        *("model", "host", "port", "uds", "api_server_count", "headless", "grpc"),
        *("enable_log_requests", "disable_log_stats", "uvicorn_log_level", "tensor_parallel_size"),
        *("disable_uvicorn_access_log", "ssl_keyfile", "ssl_certfile", "ssl_ca_certs"),
        *("ssl_cert_reqs", "enable_ssl_refresh", "pipeline_parallel_size", "enforce_eager"),
    ):
        assert hasattr(args, name), name


def test_vllm_starts_its_processes_by_a_context_that_we_can_replace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from vllm.utils.system_utils import get_mp_context

    monkeypatch.setenv("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    asked: list[str | None] = []
    monkeypatch.setattr(multiprocessing, "get_context", lambda m=None: asked.append(m))
    get_mp_context()
    assert asked == ["spawn"]


def test_our_rank_order_is_vllms() -> None:
    """vLLM lays ranks out as data x pipeline x tensor, each the slower one first."""
    from vllm.distributed import parallel_state

    source = inspect.getsource(parallel_state.initialize_model_parallel)
    order = [source.index(f"{name}_model_parallel_size,") for name in ("pipeline", "tensor")]
    assert order == sorted(order)
    layout = Layout(tensor=2, pipeline=3)
    ranks = torch.arange(6).reshape(3, 2)
    for rank, at in layout.ranks():
        assert ranks[at.pipeline, at.tensor] == rank


def test_vllm_counts_what_a_connector_brings_before_it_tells_the_connector_of_the_blocks() -> None:
    source = inspect.getsource(Scheduler.schedule)
    counted = source.index("request.prefill_stats.set(")
    assert counted < source.index("self.connector.update_state_after_alloc(", counted)


def test_vllm_registers_a_request_and_then_sends_it_in_one_step() -> None:
    source = inspect.getsource(AsyncLLM._add_request)
    registered = source.index("self.output_processor.add_request(request")
    assert registered < source.index("await self.engine_core.add_request_async(request)")
