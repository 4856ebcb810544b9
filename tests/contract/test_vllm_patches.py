"""Each gap of vLLM that Seesaw patches is still there, and the patch closes it.

A test fails once vLLM no longer needs its patch, so that none outlives its reason.
"""

import inspect
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from vllm.distributed.device_communicators.shm_broadcast import (
    MessageQueue,
    ShmRingBuffer,
    SpinCondition,
)
from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm
from vllm.platforms import current_platform
from vllm.utils.network_utils import get_file_store_init_method
from vllm.v1.executor import multiproc_executor, uniproc_executor
from vllm.v1.worker.gpu_model_runner import GPUModelRunner

from seesaw_worker.processes.run_folder import WorkerFiles
from seesaw_worker.upstream import patches

only_cpu = pytest.mark.skipif(not current_platform.is_cpu(), reason="patches vLLM's CPU backend")


def test_patch_readers_spin_for_a_second() -> None:
    spin = inspect.signature(SpinCondition.__init__).parameters["busy_loop_s"].default
    assert spin > 10 * patches._SPIN_S, "vLLM calms its idle readers itself: drop the patch"


def test_patch_readers_are_calm(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[int | None] = []
    monkeypatch.setattr(
        SpinCondition, "wait", lambda self, timeout_ms=None: waits.append(timeout_ms)
    )
    monkeypatch.setattr(SpinCondition, "_seesaw_calm", False, raising=False)
    patches.calm_idle_readers()
    patches.calm_idle_readers()
    reader = SimpleNamespace(busy_loop_s=1)
    for timeout_ms in (None, 5, 5000):
        SpinCondition.wait(reader, timeout_ms)
    assert waits == [patches._POLL_CAP_MS, 5, patches._POLL_CAP_MS]
    assert reader.busy_loop_s == patches._SPIN_S


def test_patch_ranks_meet_in_a_file_of_the_temporary_directory_that_stays() -> None:
    place = get_file_store_init_method()
    assert place.startswith(f"file://{tempfile.gettempdir()}/vllm_dist_"), "drop the patch"


def test_patch_ranks_meet_in_a_file_that_names_their_worker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for module in (multiproc_executor, uniproc_executor):
        monkeypatch.setattr(module, "get_file_store_init_method", get_file_store_init_method)
    patches.name_rendezvous(WorkerFiles(folder=tmp_path / "seesaw-0123456789abcdef").new_rendezvous)
    names = {m.get_file_store_init_method() for m in (multiproc_executor, uniproc_executor)}
    assert len(names) == 2
    start = f"file://{tmp_path}/seesaw-0123456789abcdef/seesaw.0123456789abcdef."
    assert all(name.startswith(start) for name in names)


@only_cpu
def test_patch_linear_weights_are_packed_and_emptied_unless_we_forbid_it(
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
    assert dispatched().weight.numel() == 0, "vLLM keeps the weight itself: drop the patch"
    patches.keep_plain_weights()
    layer = dispatched()
    assert layer.weight.shape == (64, 64)
    before = layer.cpu_linear(torch.ones(1, 64), layer.weight, None)
    layer.weight.data.mul_(2)
    assert torch.equal(layer.cpu_linear(torch.ones(1, 64), layer.weight, None), 2 * before)


@only_cpu
def test_patch_later_stages_have_no_inputs_without_a_warm_up() -> None:
    from vllm.config import CompilationMode
    from vllm.v1.worker.cpu_worker import CPUWorker

    worker = SimpleNamespace(
        compilation_config=SimpleNamespace(mode=CompilationMode.NONE),
        cache_config=SimpleNamespace(kv_cache_memory_bytes=1 << 20),
    )
    assert not CPUWorker._should_warm_up_model(worker), "vLLM warms up always: drop the patch"
    source = inspect.getsource(GPUModelRunner.__init__)
    assert "self.intermediate_tensors: IntermediateTensors | None = None" in source
    assert "make_empty_intermediate_tensors" in inspect.getsource(GPUModelRunner._dummy_run)


@pytest.mark.parametrize(("is_first", "expected"), [(True, None), (False, "made")])
def test_patch_later_stages_get_inputs(
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
    patches.make_stage_inputs(runner)
    assert runner.intermediate_tensors == expected


def test_patch_cpu_generators_cannot_rewind_by_offset() -> None:
    generator = torch.Generator("cpu")
    assert "set_offset" in inspect.getsource(GPUModelRunner._bookkeeping_sync), "drop the patch"
    with pytest.raises(RuntimeError):
        generator.set_offset(generator.get_offset() - 4)


def test_patch_partial_prefills_of_seeded_requests_are_rewound(
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
    patches.rewind_seeded_generators_on_cpu()
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


def test_patch_message_queues_are_sparse_upstream_and_reserved_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else filling /dev/shm while a worker serves ends it by SIGBUS."""

    def reserved_share() -> tuple[int, float]:
        queue = ShmRingBuffer(2, 24 << 20, 10)
        found = Path("/dev/shm", queue.shared_memory.name).stat()
        return found.st_size, found.st_blocks * 512 / found.st_size

    monkeypatch.setattr(ShmRingBuffer, "__init__", ShmRingBuffer.__init__)
    monkeypatch.setattr(ShmRingBuffer, "_seesaw_reserves", False, raising=False)
    num_bytes, share = reserved_share()
    assert num_bytes > 240 << 20
    assert share < 0.1, "drop the patch"
    patches.reserve_message_queues()
    num_bytes, share = reserved_share()
    assert num_bytes <= 10 * (patches.QUEUE_CHUNK_BYTES + 3) + 4096
    assert share >= 1


def test_a_message_larger_than_a_chunk_still_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ShmRingBuffer, "__init__", ShmRingBuffer.__init__)
    monkeypatch.setattr(ShmRingBuffer, "_seesaw_reserves", False, raising=False)
    patches.reserve_message_queues()
    writer = MessageQueue(1, 1)
    reader = MessageQueue.create_from_handle(writer.export_handle(), 0)
    ready = threading.Thread(target=writer.wait_until_ready)
    ready.start()
    reader.wait_until_ready()
    ready.join()
    for size in (10, patches.QUEUE_CHUNK_BYTES + 1):
        writer.enqueue(bytes(size))
        assert len(reader.dequeue(timeout=10)) == size
