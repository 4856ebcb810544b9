"""What elastic instances lean on in vLLM. An upgrade that breaks one of these names it here."""

import inspect

import torch
from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend, CPUAttentionBackendImpl
from vllm.v1.core.sched.interface import SchedulerInterface
from vllm.v1.core.sched.output import GrammarOutput
from vllm.v1.engine.core import EngineCore
from vllm.v1.executor.abstract import Executor
from vllm.v1.executor.multiproc_executor import MultiprocExecutor
from vllm.v1.worker.gpu_input_batch import CachedRequestState, InputBatch
from vllm.v1.worker.gpu_model_runner import GPUModelRunner

from seesaw_worker.modes.elastic.attention import ElasticAttention, ElasticBackend
from seesaw_worker.modes.elastic.executor import ElasticExecutor
from seesaw_worker.modes.elastic.instance import Instance
from seesaw_worker.modes.elastic.scheduler import ElasticScheduler


def names(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)  # type: ignore[arg-type]


def test_scheduler_and_executor_implement_all_that_vllm_asks() -> None:
    assert not inspect.isabstract(ElasticScheduler)
    assert not inspect.isabstract(ElasticExecutor)
    for name in SchedulerInterface.__abstractmethods__ - {"__init__"}:
        theirs, ours = getattr(SchedulerInterface, name), getattr(ElasticScheduler, name)
        if callable(theirs):
            assert names(ours) == names(theirs), name


def test_a_step_schedules_executes_and_updates_in_this_order() -> None:
    source = inspect.getsource(EngineCore.step)
    calls = ("has_requests", "schedule(", "execute_model", "future.result", "update_from_output")
    places = [source.index(call) for call in calls]
    assert places == sorted(places)


def test_the_pool_of_all_instances_is_divided_after_vllm_has_planned_it() -> None:
    source = inspect.getsource(EngineCore._initialize_kv_caches)
    calls = ("determine_available_memory", "get_kv_cache_configs", "initialize_from_config")
    places = [source.index(call) for call in calls]
    assert places == sorted(places)
    assert hasattr(Executor, "compile_or_warm_up_model")


def test_an_instance_can_be_given_up() -> None:
    assert issubclass(Instance, MultiprocExecutor)
    source = inspect.getsource(MultiprocExecutor)
    for name in ("self.workers =", "self.is_failed =", "self.output_rank =", "shutting_down"):
        assert name in source, name
    assert "self.start_worker_monitor()" in source
    assert {"method", "timeout", "args", "unique_reply_rank"} <= set(
        names(MultiprocExecutor.collective_rpc)
    )


def test_the_sampler_takes_a_batch_that_we_fill() -> None:
    for name in ("add_request", "remove_request", "condense", "refresh_metadata"):
        assert callable(getattr(InputBatch, name))
    assert {"prompt_token_ids", "sampling_params", "generator", "output_token_ids"} <= set(
        names(CachedRequestState)
    )
    assert list(GrammarOutput.__dataclass_fields__)[:2] == [
        "structured_output_request_ids",
        "grammar_bitmask",
    ]
    assert "self.sampler(" in inspect.getsource(GPUModelRunner._sample)


def test_attention_gets_the_metadata_that_the_forward_context_holds() -> None:
    assert issubclass(ElasticBackend, CPUAttentionBackend)
    assert issubclass(ElasticAttention, CPUAttentionBackendImpl)
    assert names(ElasticAttention.forward) == names(CPUAttentionBackendImpl.forward)
    assert [layout.name for layout in ElasticBackend.supported_kv_cache_layouts()] == ["LBHNC"]


def test_torchs_flash_attention_for_the_cpu_returns_the_lse() -> None:
    q, k = torch.randn(2, 3, 5, 16), torch.randn(2, 3, 7, 16)
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    _, lse = flash(q, k, k, 0.0, False, scale=0.5)
    expected = torch.logsumexp(q @ k.transpose(-1, -2) * 0.5, -1)
    torch.testing.assert_close(lse, expected)
