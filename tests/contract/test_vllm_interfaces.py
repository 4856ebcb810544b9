"""Each vLLM interface that Seesaw leans on is as Seesaw needs it.

vLLM is pinned to one minor version. After an upgrade these tests tell what broke, before any
engine starts. A mend's test fails once vLLM no longer needs it, so that none outlives its reason.
"""

import asyncio
import dataclasses
import importlib
import inspect
import multiprocessing
import tempfile
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import vllm.envs
from torch import nn
from vllm.config import KVTransferConfig, ModelConfig, ParallelConfig, VllmConfig
from vllm.config.load import LoadConfig
from vllm.distributed.device_communicators.shm_broadcast import SpinCondition
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorBase_V1
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm
from vllm.model_executor.model_loader import get_model_loader
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader
from vllm.model_executor.models.utils import extract_layer_index
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.utils.network_utils import get_file_store_init_method
from vllm.utils.torch_utils import STR_DTYPE_TO_TORCH_DTYPE
from vllm.v1.core.sched.interface import PauseState
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest, FinishReason
from vllm.v1.engine import core as engine_core
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.core import EngineCore, EngineCoreProc
from vllm.v1.engine.core_client import AsyncMPClient, BackgroundResources
from vllm.v1.executor import multiproc_executor, uniproc_executor
from vllm.v1.request import Request
from vllm.v1.worker.gpu_model_runner import GPUModelRunner

from seesaw_core.layouts import Layout
from seesaw_worker.commandline import parse
from seesaw_worker.engine import core_client, mends, requests
from seesaw_worker.engine.causes import FATAL
from seesaw_worker.engine.worker import SeesawWorker
from seesaw_worker.kv.connector import SeesawConnector
from seesaw_worker.kv.transfer import BufferTicket
from seesaw_worker.weights.loader import SharedArenaLoader

only_cpu = pytest.mark.skipif(not current_platform.is_cpu(), reason="mends vLLM's CPU backend")


# ---- words: what we look for in vLLM's log


@pytest.mark.parametrize("message", FATAL)
def test_vllm_logs_the_exceptions_that_engines_die_of_in_these_words(message: str) -> None:
    sources = inspect.getsource(engine_core) + inspect.getsource(multiproc_executor)
    assert f'logger.exception("{message}' in sources


# ---- calls: what we call exists and takes what we pass

CALLS = [
    # the controller and the client above it, on an engine core
    ("vllm.v1.engine.core_client", "AsyncMPClient.add_request_async", ("request",), ()),
    ("vllm.v1.engine.core_client", "AsyncMPClient.abort_requests_async", (["id"],), ()),
    ("vllm.v1.engine.core_client", "AsyncMPClient.get_output_async", (), ()),
    ("vllm.v1.engine.core_client", "AsyncMPClient.pause_scheduler_async", ("keep", False), ()),
    ("vllm.v1.engine.core_client", "AsyncMPClient.resume_scheduler_async", (), ()),
    ("vllm.v1.engine.core_client", "AsyncMPClient.collective_rpc_async", ("method",), ()),
    ("vllm.v1.engine.core_client", "AsyncMPClient.reset_prefix_cache_async", (False, False), ()),
    ("vllm.v1.engine.core_client", "AsyncMPClient.ensure_alive", (), ()),
    ("vllm.v1.engine.core_client", "AsyncMPClient.shutdown", (), ("timeout",)),
    (
        "vllm.v1.engine.core_client",
        "EngineCoreClient.make_async_mp_client",
        (),
        ("vllm_config", "executor_class", "log_stats"),
    ),
    # the engine client
    (
        "vllm.v1.engine.async_llm",
        "AsyncLLM.from_vllm_config",
        ("config",),
        ("enable_log_requests", "disable_log_stats"),
    ),
    ("vllm.v1.engine.async_llm", "AsyncLLM.reset_mm_cache", (), ()),
    ("vllm.v1.engine.async_llm", "AsyncLLM.get_supported_tasks", (), ()),
    ("vllm.v1.engine.async_llm", "AsyncLLM.shutdown", (), ("timeout",)),
    ("vllm.v1.executor", "Executor.get_class", ("config",), ()),
    # the command line and the server
    ("vllm.entrypoints.launchers.cli_args", "make_arg_parser", ("parser",), ()),
    ("vllm.entrypoints.launchers.cli_args", "validate_parsed_serve_args", ("args",), ()),
    ("vllm.entrypoints.launchers.app", "build_app", ("args", "tasks", "model_config"), ()),
    (
        "vllm.entrypoints.launchers.api_server.app_state",
        "init_app_state",
        ("client", "state", "args", "tasks"),
        (),
    ),
    ("vllm.entrypoints.launchers.launcher", "setup_server", ("args",), ("reuse_port",)),
    ("vllm.engine.arg_utils", "AsyncEngineArgs.from_cli_args", ("args",), ()),
    ("vllm.engine.arg_utils", "AsyncEngineArgs.create_engine_config", (), ("usage_context",)),
    (
        "vllm.model_executor.model_loader.weight_utils",
        "download_weights_from_hf",
        ("model",),
        ("cache_dir", "allow_patterns"),
    ),
    # the loader
    ("vllm.model_executor.model_loader", "register_model_loader", ("format",), ()),
    (
        "vllm.model_executor.model_loader.default_loader",
        "DefaultModelLoader._prepare_weights",
        ("model", None, "revision"),
        ("fall_back_to_pt", "allow_patterns_overrides"),
    ),
]


def resolve(module: str, path: str) -> Any:
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return found


@pytest.mark.parametrize(("module", "path", "args", "kwargs"), CALLS, ids=[c[1] for c in CALLS])
def test_vllm_takes_the_calls_that_we_make(
    module: str, path: str, args: tuple[Any, ...], kwargs: tuple[str, ...]
) -> None:
    function = resolve(module, path)
    is_method = "." in path and not inspect.ismethod(function)
    if is_method and not isinstance(
        inspect.getattr_static(resolve(module, path.rpartition(".")[0]), path.rpartition(".")[2]),
        staticmethod,
    ):
        args = ("self", *args)
    inspect.signature(function).bind(*args, **dict.fromkeys(kwargs))
    if path.endswith(("_async", "init_app_state")):
        assert inspect.iscoroutinefunction(function)


# ---- overrides: what we override exists and calls us as we expect

BaseWorker = SeesawWorker.__mro__[1]
OVERRIDES: list[tuple[type[Any], type[Any]]] = [
    (SeesawConnector, KVConnectorBase_V1),
    (SharedArenaLoader, DefaultModelLoader),
    (SeesawWorker, BaseWorker),
    (core_client.TwoEngineClient, AsyncMPClient),
]


def overridden(ours: type[Any], theirs: type[Any]) -> list[str]:
    return [
        name
        for name, member in vars(ours).items()
        if inspect.isfunction(member) and not name.startswith("__") and hasattr(theirs, name)
    ]


@pytest.mark.parametrize(("ours", "theirs"), OVERRIDES, ids=[o.__name__ for o, _ in OVERRIDES])
def test_our_overrides_take_what_vllm_passes(ours: type[Any], theirs: type[Any]) -> None:
    names = overridden(ours, theirs)
    assert names
    for name in names:
        mine = inspect.signature(getattr(ours, name)).parameters
        base = inspect.signature(getattr(theirs, name)).parameters
        takes_rest = any(p.kind is p.VAR_KEYWORD for p in mine.values())
        for parameter in base.values():
            is_known = (
                parameter.name in mine
                or takes_rest
                or parameter.kind
                in (
                    parameter.VAR_KEYWORD,
                    parameter.VAR_POSITIONAL,
                )
            )
            assert is_known, f"{ours.__name__}.{name} does not take {parameter.name!r}"
        surplus = [p for n, p in mine.items() if n not in base and p.default is p.empty]
        assert all(p.kind is p.VAR_KEYWORD for p in surplus), f"{ours.__name__}.{name}: {surplus}"
        is_async = inspect.iscoroutinefunction(getattr(theirs, name))
        assert inspect.iscoroutinefunction(getattr(ours, name)) is is_async


def test_the_connector_leaves_nothing_abstract() -> None:
    assert not getattr(SeesawConnector, "__abstractmethods__", frozenset())


@pytest.mark.parametrize(
    "name",
    [
        *("get_num_new_matched_tokens", "update_state_after_alloc", "build_connector_meta"),
        *("update_connector_output", "request_finished", "on_new_request", "reset_cache"),
        *("get_loaded_kv_cache_group_ids", "register_kv_caches", "save_kv_layer"),
        *("start_load_kv", "wait_for_layer_load", "wait_for_save", "get_finished", "shutdown"),
    ],
)
def test_every_hook_of_the_connector_is_still_one_of_vllms(name: str) -> None:
    assert name in overridden(SeesawConnector, KVConnectorBase_V1)


@pytest.mark.parametrize("name", ["load_model", "execute_model", "synchronize_device"])
def test_vllms_worker_has_what_ours_extends(name: str) -> None:
    assert name in overridden(SeesawWorker, BaseWorker)


@pytest.mark.parametrize("name", sorted(core_client._UNSUPPORTED))
def test_what_the_client_refuses_exists_in_vllm(name: str) -> None:
    assert hasattr(AsyncMPClient, name)


# ---- fields: what we read and write is there

FIELDS: list[tuple[type[Any], tuple[str, ...]]] = [
    (
        SchedulerOutput,
        (
            *("kv_connector_block_state", "scheduled_new_reqs", "scheduled_cached_reqs"),
            *("num_scheduled_tokens", "total_num_scheduled_tokens"),
        ),
    ),
    (EngineCoreRequest, tuple(inspect.signature(EngineCoreRequest).parameters)[:9]),
    (
        EngineCoreRequest,
        ("prompt_embeds", "priority", "resumable", "cache_salt", "mm_features", "lora_request"),
    ),
    (EngineCoreOutput, ("request_id", "new_token_ids", "finish_reason")),
    (BackgroundResources, ("engine_dead",)),
    (VllmConfig, ("additional_config", "kv_transfer_config", "parallel_config")),
    (ParallelConfig, ("rank", "worker_cls", "distributed_executor_backend")),
    (KVTransferConfig, ("kv_connector", "kv_connector_module_path", "kv_role")),
    (LoadConfig, ("load_format",)),
    (
        AsyncEngineArgs,
        (
            *("tensor_parallel_size", "pipeline_parallel_size", "distributed_executor_backend"),
            *("worker_cls", "load_format", "additional_config", "kv_transfer_config"),
            *("disable_hybrid_kv_cache_manager", "kv_cache_memory_bytes", "max_model_len"),
            *("block_size", "enforce_eager", "disable_log_stats", "enable_lora"),
            *("speculative_config", "enable_sleep_mode", "data_parallel_size"),
            *("enable_expert_parallel", "quantization"),
        ),
    ),
]


@pytest.mark.parametrize(("owner", "names"), FIELDS, ids=[o.__name__ for o, _ in FIELDS])
def test_vllms_types_have_the_fields_that_we_use(owner: type[Any], names: tuple[str, ...]) -> None:
    known = getattr(owner, "__struct_fields__", None) or {f.name for f in dataclasses.fields(owner)}
    assert set(names) <= set(known)


@pytest.mark.parametrize(
    "name",
    [
        *("get_total_num_hidden_layers", "get_total_num_kv_heads", "get_head_size"),
        *("is_hybrid", "is_attention_free", "is_encoder_decoder", "use_mla"),
    ],
)
def test_the_models_configuration_tells_its_shape(name: str) -> None:
    assert hasattr(ModelConfig, name)


@pytest.mark.parametrize(
    "name",
    [
        *("VLLM_LOGGING_LEVEL", "VLLM_NO_USAGE_STATS", "VLLM_WORKER_MULTIPROC_METHOD"),
        *("VLLM_CPU_OMP_THREADS_BIND", "VLLM_CPU_KVCACHE_SPACE", "VLLM_PLUGINS"),
    ],
)
def test_vllm_reads_the_variables_that_we_set(name: str) -> None:
    assert name in vllm.envs.environment_variables


# ---- behaviour: requests, pauses, loading


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
    from seesaw_worker.weights.loader import LOAD_FORMAT, register

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


# ---- mends: each gap is still there, and the mend closes it


def test_mend_readers_spin_for_a_second() -> None:
    spin = inspect.signature(SpinCondition.__init__).parameters["busy_loop_s"].default
    assert spin > 10 * mends._SPIN_S, "vLLM calms its idle readers itself: drop the mend"


def test_mend_readers_are_calm(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[int | None] = []
    monkeypatch.setattr(
        SpinCondition, "wait", lambda self, timeout_ms=None: waits.append(timeout_ms)
    )
    monkeypatch.setattr(SpinCondition, "_seesaw_calm", False, raising=False)
    mends.calm_idle_readers()
    mends.calm_idle_readers()
    reader = SimpleNamespace(busy_loop_s=1)
    for timeout_ms in (None, 5, 5000):
        SpinCondition.wait(reader, timeout_ms)
    assert waits == [mends._POLL_CAP_MS, 5, mends._POLL_CAP_MS]
    assert reader.busy_loop_s == mends._SPIN_S


def test_mend_ranks_meet_in_a_file_of_the_temporary_directory_that_stays() -> None:
    place = get_file_store_init_method()
    assert place.startswith(f"file://{tempfile.gettempdir()}/vllm_dist_"), "drop the mend"


def test_mend_ranks_meet_in_a_folder_that_goes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for module in (multiproc_executor, uniproc_executor):
        monkeypatch.setattr(module, "get_file_store_init_method", get_file_store_init_method)
    mends.keep_rendezvous_in(tmp_path)
    for module in (multiproc_executor, uniproc_executor):
        assert module.get_file_store_init_method().startswith(f"file://{tmp_path}/vllm_dist_")


@only_cpu
def test_mend_linear_weights_are_packed_and_emptied_unless_we_forbid_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import vllm._custom_ops as ops

    def dispatched() -> Any:
        layer = nn.Linear(64, 64, bias=False, dtype=torch.float32)
        dispatch_cpu_unquantized_gemm(layer, remove_weight=True)
        return layer

    monkeypatch.setattr(ops, "_supports_onednn", ops._supports_onednn)
    if not ops._supports_onednn:
        pytest.skip("this build of vLLM has no oneDNN")
    assert dispatched().weight.numel() == 0, "vLLM keeps the weight itself: drop the mend"
    mends.keep_plain_weights()
    layer = dispatched()
    assert layer.weight.shape == (64, 64)
    before = layer.cpu_linear(torch.ones(1, 64), layer.weight, None)
    layer.weight.data.mul_(2)
    assert torch.equal(layer.cpu_linear(torch.ones(1, 64), layer.weight, None), 2 * before)


@only_cpu
def test_mend_later_stages_have_no_inputs_without_a_warm_up() -> None:
    from vllm.config import CompilationMode
    from vllm.v1.worker.cpu_worker import CPUWorker

    worker = SimpleNamespace(
        compilation_config=SimpleNamespace(mode=CompilationMode.NONE),
        cache_config=SimpleNamespace(kv_cache_memory_bytes=1 << 20),
    )
    assert not CPUWorker._should_warm_up_model(worker), "vLLM warms up always: drop the mend"
    source = inspect.getsource(GPUModelRunner.__init__)
    assert "self.intermediate_tensors: IntermediateTensors | None = None" in source
    assert "make_empty_intermediate_tensors" in inspect.getsource(GPUModelRunner._dummy_run)


@pytest.mark.parametrize(("is_first", "expected"), [(True, None), (False, "made")])
def test_mend_later_stages_get_inputs(
    is_first: bool, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import vllm.distributed

    monkeypatch.setattr(
        vllm.distributed, "get_pp_group", lambda: SimpleNamespace(is_first_rank=is_first)
    )
    runner = SimpleNamespace(
        intermediate_tensors=None,
        max_num_tokens=8,
        model_config=SimpleNamespace(dtype=torch.float32),
        device="cpu",
        model=SimpleNamespace(make_empty_intermediate_tensors=lambda **kw: "made"),
    )
    mends.make_stage_inputs(runner)
    assert runner.intermediate_tensors == expected


def test_mend_cpu_generators_cannot_rewind_by_offset() -> None:
    generator = torch.Generator("cpu")
    assert "set_offset" in inspect.getsource(GPUModelRunner._bookkeeping_sync), "drop the mend"
    with pytest.raises((RuntimeError, NotImplementedError)):
        generator.set_offset(generator.get_offset() - 4)


def test_mend_partial_prefills_of_seeded_requests_are_rewound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def sample(self: Any) -> torch.Tensor:
        return torch.stack(
            [torch.rand(1, generator=g) for g in self.input_batch.generators.values()]
        )

    def bookkeep(self: Any) -> set[int]:
        return set(self.input_batch.generators)

    monkeypatch.setattr(GPUModelRunner, "_sample", sample)
    monkeypatch.setattr(GPUModelRunner, "_bookkeeping_sync", bookkeep)
    monkeypatch.setattr(GPUModelRunner, "_seesaw_rewinds", False, raising=False)
    mends.rewind_seeded_generators_on_cpu()
    generators = {i: torch.Generator("cpu").manual_seed(i) for i in range(2)}
    states = {i: g.get_state() for i, g in generators.items()}
    runner = SimpleNamespace(
        input_batch=SimpleNamespace(num_reqs=2, generators=generators),
        discard_request_mask=SimpleNamespace(np=np.array([True, False, True])),
    )
    GPUModelRunner._sample(runner)
    assert torch.equal(generators[0].get_state(), states[0])
    assert not torch.equal(generators[1].get_state(), states[1])
    assert GPUModelRunner._bookkeeping_sync(runner) == {1}
    assert sorted(generators) == [0, 1]


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
