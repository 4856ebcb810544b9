"""Bits: weights and KV after any number of transitions are those first computed.

Runs two real engines in this process's tree, under a policy that does only what it is told, and
looks at the shared memory from outside.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from seesaw_worker.synthetic import TINY, TINY_MIXTRAL, TINY_MQA, ModelSpec, write_checkpoint

pytestmark = [pytest.mark.engine]

# Each scenario runs in a process of its own: engines fork from a server that is started before
# vLLM is imported, and a broken engine must not break the test run.
SCENARIOS: dict[str, Callable[[Any], Awaitable[None]]] = {}


def scenario(act: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
    SCENARIOS[act.__name__] = act
    return act


class Told:
    """A policy that does what the test says, once each."""

    def __init__(self) -> None:
        from seesaw_core.policy import Step

        self.steps: list[Step] = []

    def next_step(self, view: Any) -> Any:
        from seesaw_core.policy import Admit, Wait

        if self.steps:
            step = self.steps[0]
            if not isinstance(step, Admit) or len(view.waiting_tokens) >= step.count:
                return self.steps.pop(0)
        return Wait(at_most_s=0.02, reason="nothing told")


@scenario
async def weights_after_100_transitions(run: Any) -> None:
    llm, told = run.llm, run.told
    from seesaw_core.policy import Phase, Switch

    first = await run.digests_of_both()
    for _ in range(50):
        told.steps += [Switch(to=p, reason="told") for p in (Phase.PREFILL, Phase.DECODE)]
    while llm.controller.num_transitions < run.transitions_before + 100:
        await asyncio.sleep(0.02)
    assert await run.digests_of_both() == first
    # and a single flipped bit does not go unseen, until the next transition mends it
    arena = llm.configs.settings.folder / "arena-0"
    with arena.open("r+b") as file:
        file.seek(4096)
        byte = file.read(1)
        file.seek(4096)
        file.write(bytes([byte[0] ^ 0x10]))
    assert (await run.decode_digests())[0] != first[1][0]
    assert await run.digests_of_both() == first


@scenario
async def every_step_needs_the_device(run: Any) -> None:
    """The prefill engine, resumed without owning the devices, refuses to run and dies of it."""
    from seesaw_worker.engine import requests

    await run.llm.cores.prefill.resume_scheduler_async()
    await run.llm.cores.prefill.add_request_async(requests.for_warm_up("seesaw-9", 40))
    async with asyncio.timeout(20):
        await run.died.wait()


@scenario
async def kv_arrives_bit_for_bit(run: Any) -> None:
    tokens = await run.reshard_one(num_tokens=300, corrupt=False)
    assert len(tokens) == 4
    assert not run.died.is_set()


@scenario
async def corrupted_kv_is_noticed(run: Any) -> None:
    from vllm.v1.engine.exceptions import EngineDeadError

    with pytest.raises(EngineDeadError):
        await run.reshard_one(num_tokens=300, corrupt=True)
    async with asyncio.timeout(20):
        await run.died.wait()


class Run:
    """Two engines and what the scenarios do with them."""

    def __init__(self, llm: Any, told: Told, died: asyncio.Event) -> None:
        self.llm, self.told, self.died = llm, told, died
        self.transitions_before = llm.controller.num_transitions

    async def decode_digests(self) -> list[str]:
        digests: list[str] = await self.llm.cores.decode.collective_rpc_async("seesaw_digests")
        return digests

    async def digests_of_both(self) -> tuple[list[str], list[str]]:
        """Every rank's weights, as its own engine finds them when it owns the devices."""
        from seesaw_core.policy import Phase, Switch

        found = []
        for phase, core in (
            (Phase.PREFILL, self.llm.cores.prefill),
            (Phase.DECODE, self.llm.cores.decode),
        ):
            self.told.steps.append(Switch(to=phase, reason="told"))
            while self.told.steps or self.llm.controller.phase is not phase:
                await asyncio.sleep(0.01)
            found.append(await core.collective_rpc_async("seesaw_digests"))
        return found[0], found[1]

    async def reshard_one(self, *, num_tokens: int, corrupt: bool) -> list[int]:
        from vllm import SamplingParams

        from seesaw_core.policy import Admit, Phase, Switch

        async def generate() -> list[int]:
            prompt = {"prompt_token_ids": [(7 * i) % 900 + 10 for i in range(num_tokens)]}
            params = SamplingParams(temperature=0.0, max_tokens=4, ignore_eos=True)
            outputs = [o async for o in self.llm.generate(prompt, params, "one")]
            return list(outputs[-1].outputs[0].token_ids)

        self.told.steps += [
            Switch(to=Phase.PREFILL, reason="told"),
            Admit(count=1, reason="told"),
        ]
        asking = asyncio.create_task(generate())
        ledger = self.llm.controller.ledger
        async with asyncio.timeout(30):
            while not any(e.state == "stored" for e in ledger):
                await asyncio.sleep(0.01)
        if corrupt:
            settings = self.llm.configs.settings
            block = next(iter(ledger)).blocks[1]
            with settings.buffer_path.open("r+b") as file:
                file.seek(block * settings.block_bytes + 77)
                byte = file.read(1)
                file.seek(-1, os.SEEK_CUR)
                file.write(bytes([byte[0] ^ 1]))
        self.told.steps.append(Switch(to=Phase.DECODE, reason="told"))
        return await asyncio.wait_for(asking, 30)


async def _play(name: str, model: Path, decode_tensor: int) -> None:
    from vllm.engine.arg_utils import AsyncEngineArgs

    from seesaw_core.layouts import Layout
    from seesaw_core.policy import PhasePolicy
    from seesaw_worker import preflight
    from seesaw_worker.engine import configs, sizes
    from seesaw_worker.engine.llm import start_llm
    from seesaw_worker.engine.settings import WeightsMode
    from seesaw_worker.settings import WorkerSettings
    from seesaw_worker.shm import RunFolder

    args = AsyncEngineArgs(
        model=str(model),
        dtype="float32",
        enforce_eager=True,
        max_model_len=1024,
        block_size=32,
        max_num_seqs=4,
        kv_cache_memory_bytes=32 << 20,
        generation_config="vllm",
    )
    settings = WorkerSettings(
        prefill=Layout(tensor=3 - decode_tensor, pipeline=decode_tensor),
        decode=Layout(tensor=decode_tensor, pipeline=3 - decode_tensor),
        kv_buffer_gib=0.03,
        shm_dir=Path("/dev/shm"),
        policy=PhasePolicy(),
        weights=WeightsMode.SHARED,
        drain_timeout_s=5.0,
        verify_kv=True,
    )
    folder = RunFolder.create(settings.shm_dir)
    told, died = Told(), asyncio.Event()

    class Deaf:
        def transition_done(self, event: Any) -> None: ...
        def wave_done(self, event: Any) -> None: ...

    try:
        made = configs.engine_configs(
            args,
            settings,
            folder=folder.path,
            shape=sizes.shape_of(configs.probe(args)),
            tensors=preflight.checkpoint_tensors(str(model)),
        )
        llm = await start_llm(
            made, policy=told, observer=Deaf(), on_death=lambda _: died.set(), log_stats=False
        )
        await SCENARIOS[name](Run(llm, told, died))
    finally:
        folder.close()


def play(name: str, model: Path, decode_tensor: int = 2) -> None:
    """Run one scenario in a fresh process and fail with its output."""
    code = (
        "import asyncio, os, sys, traceback\n"
        "from importlib.util import module_from_spec, spec_from_file_location\n"
        "from pathlib import Path\n"
        "if __name__ == '__main__':\n"
        "    from seesaw_cli.worker import set_defaults\n"
        "    set_defaults()\n"
        "    os.environ['SEESAW_SERVER_PID'] = str(os.getpid())\n"
        "    os.environ['TORCHDYNAMO_DISABLE'] = '1'\n"
        "    from seesaw_worker.engine.processes import start_fork_server\n"
        "    start_fork_server()\n"
        f"    spec = spec_from_file_location('scenarios', {__file__!r})\n"
        "    module = module_from_spec(spec)\n"
        "    spec.loader.exec_module(module)\n"
        "    from seesaw_worker.server import kill_children\n"
        "    code = 1\n"
        "    try:\n"
        f"        asyncio.run(module._play({name!r}, Path({str(model)!r}), {decode_tensor}))\n"
        "        code = 0\n"
        "    except BaseException:\n"
        "        traceback.print_exc()\n"
        "    sys.stderr.flush()\n"
        "    kill_children()\n"
        "    os._exit(code)\n"
    )
    script = model.parent / f"{name}.py"
    script.write_text(code)
    ended = subprocess.run(
        [sys.executable, "-m", "seesaw_worker.supervisor", sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, (ended.stdout + ended.stderr)[-6000:]


def made(tmp_path: Path, spec: ModelSpec) -> Path:
    model = tmp_path / "model"
    write_checkpoint(model, replace(spec, max_position_embeddings=2048))
    return model


@pytest.mark.parametrize(
    ("spec", "decode_tensor"),
    [
        pytest.param(TINY, 2, id="llama PP2-TP2"),
        pytest.param(TINY_MQA, 1, id="one KV head TP2-PP2", marks=pytest.mark.slow),
        pytest.param(TINY_MIXTRAL, 2, id="mixture of experts PP2-TP2", marks=pytest.mark.slow),
    ],
)
def test_weights_after_100_transitions_are_bit_identical(
    spec: ModelSpec, decode_tensor: int, tmp_path: Path
) -> None:
    play("weights_after_100_transitions", made(tmp_path, spec), decode_tensor)


def test_kv_arrives_bit_for_bit_and_a_flipped_bit_stops_the_worker(tmp_path: Path) -> None:
    model = made(tmp_path, TINY)
    play("kv_arrives_bit_for_bit", model)
    play("corrupted_kv_is_noticed", model)


def test_an_engine_that_does_not_own_the_devices_cannot_run_a_step(tmp_path: Path) -> None:
    play("every_step_needs_the_device", made(tmp_path, TINY))
