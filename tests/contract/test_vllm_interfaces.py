"""Each vLLM interface that Seesaw leans on is there, and takes what Seesaw passes.

vLLM is pinned to one minor version. After an upgrade these tests tell what broke, before any
engine starts.
"""

import dataclasses
import importlib
import inspect
from typing import Any

import pytest
import vllm.envs
from vllm.config import KVTransferConfig, ModelConfig, ParallelConfig, VllmConfig
from vllm.config.load import LoadConfig
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorBase_V1
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, EngineCoreRequest
from vllm.v1.engine import core as engine_core
from vllm.v1.engine.core_client import AsyncMPClient, BackgroundResources
from vllm.v1.executor import multiproc_executor
from vllm.v1.metrics.stats import PrefillStats, SchedulerStats

from seesaw_worker.modes.resharding import core_client
from seesaw_worker.modes.resharding.kv.connector import SeesawConnector
from seesaw_worker.modes.resharding.weights.loader import SharedArenaLoader
from seesaw_worker.modes.resharding.worker import SeesawWorker
from seesaw_worker.upstream.crash_reasons import FATAL

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
    # a request's own failure, and what is counted as cached
    (
        "vllm.v1.engine.output_processor",
        "OutputProcessor.abort_requests",
        (["id"],),
        ("internal",),
    ),
    ("vllm.v1.serial_utils", "MsgpackEncoder.encode", ("request",), ()),
    ("vllm.v1.serial_utils", "MsgpackDecoder.decode", (["frame"],), ()),
    (
        "vllm.v1.metrics.stats",
        "PrefillStats.set",
        (),
        ("num_prompt_tokens", "num_local_cached_tokens", "num_external_cached_tokens"),
    ),
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
    (EngineCoreOutput, ("request_id", "new_token_ids", "finish_reason", "prefill_stats")),
    (EngineCoreOutputs, ("outputs", "scheduler_stats")),
    (SchedulerStats, ("connector_prefix_cache_stats",)),
    (PrefillStats, ("num_prompt_tokens", "num_cached_tokens", "num_local_cached_tokens")),
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
