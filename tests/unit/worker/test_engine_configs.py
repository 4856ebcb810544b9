"""Both engines' configurations on a device with memory of its own, made without one."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms import current_platform, interface

from seesaw_core.errors import CapacityError
from seesaw_core.layouts import Layout
from seesaw_core.resharding.policy import PhasePolicy
from seesaw_core.resharding.weights import TensorInfo
from seesaw_core.units import GIB
from seesaw_worker.modes.preflight import checkpoint_tensors
from seesaw_worker.modes.resharding import configs, sizes
from seesaw_worker.modes.static.mode import plain_config
from seesaw_worker.processes.forking import BIND_VARIABLE
from seesaw_worker.settings.engine import WeightsMode
from seesaw_worker.settings.worker import WorkerSettings
from seesaw_worker.synthetic import TINY, write_checkpoint

DEVICE_BYTES = 24 * GIB


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    write_checkpoint(path, TINY)
    return path


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM's CPU platform says that it has devices of their own memory."""
    platform = type(current_platform)
    for name in ("VLLM_USE_V2_MODEL_RUNNER", "VLLM_CPU_KVCACHE_SPACE"):
        monkeypatch.setenv(name, "0")
        monkeypatch.delenv(name)
    monkeypatch.setattr(platform, "is_cpu", lambda self: False)
    monkeypatch.setattr(
        platform, "get_device_total_memory", classmethod(lambda cls, device_id=0: DEVICE_BYTES)
    )


def settings_with(weights: WeightsMode) -> WorkerSettings:
    return WorkerSettings(
        prefill=Layout(pipeline=2),
        decode=Layout(tensor=2),
        kv_buffer_gib=0.01,
        shm_dir=Path("/dev/shm"),
        policy=PhasePolicy(),
        weights=weights,
        drain_timeout_s=1.0,
    )


def made(
    model: Path,
    tensors: tuple[TensorInfo, ...] | None = None,
    weights: WeightsMode = WeightsMode.SHARED,
    **engine: Any,
) -> configs.EngineConfigs:
    args = AsyncEngineArgs(
        model=str(model),
        **{"dtype": "float32", "max_model_len": 1024, "block_size": 32, "max_num_seqs": 8} | engine,
    )
    return configs.engine_configs(
        args,
        settings_with(weights),
        folder=Path("/dev/shm/nowhere"),
        shape=sizes.shape_of(configs.probe(args)),
        tensors=checkpoint_tensors(str(model)) if tensors is None else tensors,
    )


def test_the_configuration_of_plain_vllm_leaves_the_flags_as_they_were(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(BIND_VARIABLE, "nobind")
    args = AsyncEngineArgs(model=str(model), dtype="float32", max_model_len=1024)
    made = plain_config(args, settings_with(WeightsMode.SHARED).decode)
    assert made.parallel_config.worker_cls.endswith("PlainCpuWorker")
    assert (args.worker_cls, args.tensor_parallel_size) == ("auto", 1)


@pytest.mark.usefixtures("gpus")
def test_each_engine_gets_its_pool_its_share_and_the_same_blocks(model: Path) -> None:
    both = made(model, block_size=None)  # so that the attention decides, once
    prefill, decode = both.prefill.cache_config, both.decode.cache_config
    assert prefill.block_size == decode.block_size == both.settings.block_size == 32
    assert prefill.user_specified_block_size
    assert decode.user_specified_block_size
    assert prefill.kv_cache_memory_bytes == both.sizes.prefill_pool_bytes
    assert decode.kv_cache_memory_bytes == both.sizes.decode_pool_bytes
    assert decode.kv_cache_memory_bytes > DEVICE_BYTES / 2, "the rest of the device"
    taken = prefill.kv_cache_memory_bytes + decode.kv_cache_memory_bytes
    assert taken + max(both.settings.arena_bytes) < 0.92 * DEVICE_BYTES
    assert 0 < prefill.gpu_memory_utilization < 0.2
    assert prefill.gpu_memory_utilization + decode.gpu_memory_utilization < 0.92
    assert os.environ["VLLM_USE_V2_MODEL_RUNNER"] == "0"


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize(
    ("ids", "found"),
    [
        pytest.param(None, (24 * GIB, 1), id="as they are visible"),
        pytest.param([3, 1], (12 * GIB, 1), id="the smallest of those chosen"),
        pytest.param([3, 3], (48 * GIB, 2), id="two ranks on one"),
    ],
)
def test_the_devices_that_are_used_are_those_that_count(
    ids: list[int] | None, found: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = {0: 24 * GIB, 1: 12 * GIB, 3: 48 * GIB} | ({1: 80 * GIB} if ids is None else {})

    def total(cls: Any, device_id: int = 0) -> int:
        return memory[cls.device_id_to_physical_device_id(device_id)]

    monkeypatch.setattr(interface, "_assigned_physical_gpu_ids", None)
    monkeypatch.setattr(type(current_platform), "get_device_total_memory", classmethod(total))
    config: Any = SimpleNamespace(parallel_config=SimpleNamespace(assigned_physical_gpu_ids=ids))
    assert sizes._device_bytes(config, num_devices=2) == found


@pytest.mark.usefixtures("gpus")
def test_arenas_count_against_the_device_that_holds_them_and_not_against_shared_memory(
    model: Path,
) -> None:
    free = os.statvfs("/dev/shm")
    more_than_shm = free.f_bavail * free.f_frsize * 2
    huge = (TensorInfo(name="lm_head.weight", num_dims=2, num_bytes=more_than_shm),)
    with pytest.raises(CapacityError, match=r"--gpu-memory-utilization=0\.92.*weights arena"):
        made(model, huge)


@pytest.mark.usefixtures("gpus")
def test_two_copies_of_the_weights_want_a_decode_pool_in_figures(model: Path) -> None:
    with pytest.raises(CapacityError, match=r"--weights=resident.*--kv-cache-memory-bytes"):
        made(model, (), WeightsMode.RESIDENT)
    both = made(model, (), WeightsMode.RESIDENT, kv_cache_memory_bytes=GIB)
    assert both.decode.cache_config.kv_cache_memory_bytes == GIB


@pytest.mark.usefixtures("gpus")
def test_a_pool_asked_for_in_blocks_counts_as_one_asked_for_in_bytes(model: Path) -> None:
    both = made(model, num_gpu_blocks_override=100)
    # 4 layers, one head a rank, 32 tokens, keys and values of 64 floats
    assert both.sizes.decode_pool_bytes == 100 * 4 * 32 * 2 * 64 * 4
    with pytest.raises(CapacityError, match=r"lower .* or --num-gpu-blocks-override"):
        made(model, num_gpu_blocks_override=10_000_000)
    with pytest.raises(CapacityError, match=r"--num-gpu-blocks-override=3 .*--max-model-len"):
        made(model, num_gpu_blocks_override=3)


def test_on_the_cpu_arenas_still_count_as_shared_memory(model: Path) -> None:
    if not current_platform.is_cpu():
        pytest.skip("needs vLLM's CPU build")
    huge = (TensorInfo(name="lm_head.weight", num_dims=2, num_bytes=1 << 45),)
    with pytest.raises(CapacityError, match="the KV buffer, the weights arenas and vLLM"):
        made(model, huge)
