"""Both of vLLM's model runners drive our connector and worker as these expect.

The second runner needs Triton, which the CPU build lacks, so no engine runs it here; its own
halves that need no kernel do, over pools as the GPU's attention has them.
"""

import inspect
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import pytest
import torch
import vllm.distributed.kv_transfer.kv_transfer_state as transfer_state
from vllm.config import KVTransferConfig, VllmConfig
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorRole
from vllm.forward_context import set_forward_context
from vllm.model_executor.layers.attention import kv_transfer_utils
from vllm.platforms import current_platform
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.outputs import KVConnectorOutput
from vllm.v1.worker import gpu_worker
from vllm.v1.worker.gpu import model_runner as second
from vllm.v1.worker.gpu import warmup
from vllm.v1.worker.gpu.kv_connector import ActiveKVConnector
from vllm.v1.worker.gpu_model_runner import GPUModelRunner
from vllm.v1.worker.kv_connector_model_runner_mixin import KVConnectorModelRunnerMixin
from vllm.v1.worker.utils import request_memory

from seesaw_core.errors import OwnershipError
from seesaw_core.layouts import Layout, ModelShape
from seesaw_worker.modes.resharding import configs
from seesaw_worker.modes.resharding.kv.buffer import create_buffer
from seesaw_worker.modes.resharding.kv.checksums import create_sums
from seesaw_worker.modes.resharding.kv.connector import SeesawConnector
from seesaw_worker.modes.resharding.kv.transfer import BlockCopy, StepCopies
from seesaw_worker.modes.resharding.worker import SeesawWorker
from seesaw_worker.processes.control_page import ControlPage, Role
from seesaw_worker.settings.engine import EngineSettings, WeightsMode

RUNNERS = (GPUModelRunner, second.GPUModelRunner)
SHAPE = ModelShape(num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8)
BLOCK, NUM_POOL_BLOCKS, NUM_BUFFER_BLOCKS = 16, 6, 4
PAGE_BYTES = 2 * BLOCK * SHAPE.head_dim * 4


def config_of(role: Role, folder: Path) -> VllmConfig:
    settings = EngineSettings(
        role=role,
        folder=folder,
        server_pid=1,
        prefill=Layout(),
        decode=Layout(),
        shape=SHAPE,
        weights=WeightsMode.SHARED,
        arena_bytes=(0,),
        block_size=BLOCK,
        page_bytes=PAGE_BYTES,
        num_buffer_blocks=NUM_BUFFER_BLOCKS,
        cores=("",),
        verify_kv=True,
    )
    transfer = KVTransferConfig(
        kv_connector="SeesawConnector",
        kv_connector_module_path="seesaw_worker.modes.resharding.kv.connector",
        kv_role="kv_producer" if role is Role.PREFILL else "kv_consumer",
    )
    return VllmConfig(
        additional_config=settings.to_additional_config(), kv_transfer_config=transfer
    )


def random_pools() -> dict[str, torch.Tensor]:
    shape = (NUM_POOL_BLOCKS, SHAPE.num_kv_heads, BLOCK, 2 * SHAPE.head_dim)
    return {f"model.layers.{i}.self_attn.attn": torch.randn(shape) for i in range(2)}


class Runner(Protocol):
    """One rank's steps, as one of vLLM's runners makes them."""

    def __init__(self, config: VllmConfig, pools: dict[str, torch.Tensor]) -> None: ...
    def step(self, copies: StepCopies, forward: Callable[[], None]) -> KVConnectorOutput: ...
    def idle(self) -> KVConnectorOutput: ...


def connector_of(config: VllmConfig, pools: dict[str, torch.Tensor]) -> SeesawConnector:
    groups: Any = SimpleNamespace(kv_cache_groups=[])
    connector = SeesawConnector(config, KVConnectorRole.WORKER, groups)
    transfer_state._KV_CONNECTOR_AGENT = connector
    return connector


def output_with(copies: StepCopies) -> SchedulerOutput:
    output = SchedulerOutput.make_empty()
    output.kv_connector_metadata = copies
    return output


class First:
    """As vLLM's first runner."""

    def __init__(self, config: VllmConfig, pools: dict[str, torch.Tensor]) -> None:
        self.config, self.connector = config, connector_of(config, pools)
        self.connector.register_kv_caches(pools)

    def step(self, copies: StepCopies, forward: Callable[[], None]) -> KVConnectorOutput:
        transfer_state._KV_CONNECTOR_AGENT = self.connector
        mixin = KVConnectorModelRunnerMixin
        with (
            set_forward_context(None, self.config),
            mixin.maybe_get_kv_connector_output(output_with(copies)) as output,
        ):
            forward()
        assert output is not None
        return output

    def idle(self) -> KVConnectorOutput:
        return self.step(StepCopies(), lambda: None)


class Second:
    """As vLLM's second runner."""

    def __init__(self, config: VllmConfig, pools: dict[str, torch.Tensor]) -> None:
        self.connector = connector_of(config, pools)
        self.active = ActiveKVConnector(config, pools)

    def step(self, copies: StepCopies, forward: Callable[[], None]) -> KVConnectorOutput:
        self.active.pre_forward(output_with(copies))
        forward()
        self.active.finish_forward()
        output = self.active.post_forward(set())
        assert output is not None
        return output

    def idle(self) -> KVConnectorOutput:
        output = self.active.no_forward(output_with(StepCopies())).kv_connector_output
        return output or KVConnectorOutput()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(transfer_state, "_KV_CONNECTOR_AGENT", None)
    num_pages = SHAPE.num_layers * SHAPE.num_kv_heads
    create_buffer(tmp_path / "kv-buffer", NUM_BUFFER_BLOCKS, num_pages * PAGE_BYTES)
    create_sums(tmp_path / "kv-sums", NUM_BUFFER_BLOCKS * num_pages)
    return tmp_path


@pytest.mark.parametrize("kind", [First, Second])
def test_kv_goes_through_either_runners_hooks_from_one_pool_to_the_other(
    kind: type[Runner], folder: Path
) -> None:
    computed, fetched = random_pools(), random_pools()
    prefill = kind(config_of(Role.PREFILL, folder), computed)
    saving = transfer_state._KV_CONNECTOR_AGENT
    decode = kind(config_of(Role.DECODE, folder), fetched)
    there, via, here = (5, 1, 2), (3, 0, 2), (0, 4, 1)

    def forward() -> None:
        for name, pool in computed.items():
            assert isinstance(saving, SeesawConnector)
            saving.save_kv_layer(name, pool, attn_metadata=None)

    saved = BlockCopy(request_id="r", buffer_blocks=via, pool_blocks=there)
    prefill.step(StepCopies(saves=[saved]), forward)
    wanted = BlockCopy(request_id="r", buffer_blocks=via, pool_blocks=here)
    output = decode.step(StepCopies(loads=[wanted]), lambda: None)
    finished = set(output.finished_recving or ())
    deadline = time.monotonic() + 20
    while not finished and time.monotonic() < deadline:
        finished |= set(decode.idle().finished_recving or ())
    assert finished == {"r"}
    for name, pool in computed.items():
        assert torch.equal(pool[list(there)], fetched[name][list(here)])


def test_a_layers_hook_comes_after_its_attention() -> None:
    source = inspect.getsource(kv_transfer_utils.maybe_transfer_kv_layer)
    ran, saved = source.index("result = func("), source.index("connector.save_kv_layer(layer_name,")
    assert ran < saved


@pytest.mark.parametrize("runner", RUNNERS)
def test_either_runner_takes_steps_in_the_two_calls_that_our_worker_extends(
    runner: type[Any],
) -> None:
    inspect.signature(runner.execute_model).bind("self", "scheduler output", None)
    inspect.signature(runner.sample_tokens).bind("self", None)
    assert "self.intermediate_tensors" in inspect.getsource(runner.__init__)
    for name in ("execute_model", "sample_tokens", "compile_or_warm_up_model", "load_model"):
        ours = list(inspect.signature(getattr(SeesawWorker, name)).parameters)
        theirs = list(inspect.signature(getattr(gpu_worker.Worker, name)).parameters)
        assert ours == theirs


def test_the_second_runner_warms_up_by_whole_steps_of_the_worker() -> None:
    """Which is why ours lets steps pass that nobody owns the device for."""
    source = inspect.getsource(gpu_worker.Worker.compile_or_warm_up_model)
    assert "self.model_runner, self.execute_model, self.sample_tokens" in source
    assert "set_disabled(True)" in inspect.getsource(warmup)


def test_warming_up_needs_no_device_and_serving_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = SeesawWorker.__mro__[1]
    ran: list[str] = []
    step: Any = SimpleNamespace(total_num_scheduled_tokens=4)
    monkeypatch.setattr(base, "execute_model", lambda self, output: ran.append("step"))
    monkeypatch.setattr(base, "compile_or_warm_up_model", lambda self: self.execute_model(step))
    worker = SeesawWorker.__new__(SeesawWorker)
    worker.rank = 0
    worker._role, worker._is_warming_up, worker._fresh = Role.PREFILL, False, False
    worker._control = ControlPage.create(tmp_path, 1)
    worker._control.take(0, Role.DECODE)
    worker.compile_or_warm_up_model()
    assert ran == ["step"]
    with pytest.raises(OwnershipError):
        worker.execute_model(step)


def test_on_gpus_the_first_runner_is_taken_unless_the_user_names_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VLLM_USE_V2_MODEL_RUNNER", "")
    monkeypatch.delenv("VLLM_USE_V2_MODEL_RUNNER")
    configs.choose_model_runner()
    if current_platform.is_cpu():
        assert "VLLM_USE_V2_MODEL_RUNNER" not in os.environ
    monkeypatch.setattr(type(current_platform), "is_cpu", lambda self: False)
    configs.choose_model_runner()
    assert not VllmConfig().use_v2_model_runner
    monkeypatch.setenv("VLLM_USE_V2_MODEL_RUNNER", "1")
    configs.choose_model_runner()
    assert os.environ["VLLM_USE_V2_MODEL_RUNNER"] == "1"


GIB = 1 << 30


@pytest.mark.parametrize(
    ("free", "share", "fits"), [(10 * GIB, 0.125, True), (9 * GIB, 0.125, False)]
)
def test_at_its_start_a_rank_wants_just_its_share_of_the_device_free(
    free: int, share: float, fits: bool
) -> None:
    snapshot: Any = SimpleNamespace(total_memory=80 * GIB, free_memory=free, device_="cuda:0")
    cache: Any = SimpleNamespace(gpu_memory_utilization=share)
    if fits:
        assert request_memory(snapshot, cache) == 10 * GIB
    else:
        with pytest.raises(ValueError, match="Free memory on device cuda:0"):
            request_memory(snapshot, cache)


def test_a_pool_of_explicit_bytes_is_not_measured_against_what_others_take() -> None:
    source = inspect.getsource(gpu_worker.Worker.determine_available_memory)
    explicit, profiled = source.index("kv_cache_memory_bytes :="), source.index("memory_profiling(")
    assert "return reserve_mm_ipc_gpu_memory(" in source[explicit:profiled]
