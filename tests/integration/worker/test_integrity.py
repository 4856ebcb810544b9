"""Bits: weights and KV after any number of transitions are those first computed.

Runs two real engines in this process's tree, under a policy that does only what it is told, and
looks at the shared memory from outside.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from seesaw_core.layouts import Layout
from seesaw_worker.synthetic import TINY, TINY_MIXTRAL, TINY_MQA, ModelSpec, write_checkpoint

pytestmark = [pytest.mark.engine]

# Each scenario runs in a process of its own: engines fork from a server that is started before
# vLLM is imported, and a broken engine must not break the test run.
SCENARIOS: dict[str, Callable[[Any], Awaitable[None]]] = {}


def scenario(act: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
    SCENARIOS[act.__name__] = act
    return act


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Which engines a scenario runs. ``engine`` is what differs from ENGINE."""

    prefill: Layout = field(default_factory=lambda: Layout(pipeline=2))
    decode: Layout = field(default_factory=lambda: Layout(tensor=2))
    engine: dict[str, Any] = field(default_factory=dict)
    always_replay: bool = False

    @classmethod
    def of(cls, fields: dict[str, Any]) -> "Setup":
        layouts = {name: Layout(**fields[name]) for name in ("prefill", "decode")}
        return cls(**fields | layouts)


ENGINE = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_model_len": 1024,
    "block_size": 32,
    "max_num_seqs": 4,
    "kv_cache_memory_bytes": 32 << 20,
    "generation_config": "vllm",
}


class Told:
    """A policy that does what the test says, once each. It admits the first prompt that waits."""

    def __init__(self) -> None:
        from seesaw_core.resharding.policy import Step

        self.steps: list[Step] = []

    def next_step(self, view: Any) -> Any:
        from seesaw_core.resharding.policy import Admit, Wait

        if self.steps:
            step = self.steps[0]
            if isinstance(step, Admit) and view.waiting:
                step = Admit(prompts=(view.waiting[0].key,), reason=step.reason)
            if not isinstance(step, Admit) or step.prompts:
                del self.steps[0]
                return step
        return Wait(at_most_s=0.02, reason="nothing told")


@scenario
async def weights_after_100_transitions(run: Any) -> None:
    first = await run.digests_of_both()
    await run.make_transitions(100)
    assert await run.digests_of_both() == first
    # and a single flipped bit does not go unseen, until the next transition mends it
    arena = run.llm.configs.settings.folder / "arena-0"
    with arena.open("r+b") as file:
        file.seek(4096)
        byte = file.read(1)
        file.seek(4096)
        file.write(bytes([byte[0] ^ 0x10]))
    assert (await run.decode_digests())[0] != first[1][0]
    assert await run.digests_of_both() == first


@scenario
async def figures_of_100_transitions(run: Any) -> None:
    """The same, and what a check on new hardware wants to know of them."""
    first = await run.digests_of_both()
    run.events.clear()
    await run.make_transitions(100)
    events = list(run.events)
    assert await run.digests_of_both() == first, "weights have changed"
    cores = {"prefill": run.llm.cores.prefill, "decode": run.llm.cores.decode}
    for name, core in cores.items():
        to = [event for event in events if event.to == name]
        replays = [info["replay"] for info in await core.collective_rpc_async("seesaw_info")]
        run.notes[name] = {
            "transitions": len(to),
            "weight_bytes": min(event.weight_bytes for event in to),
            "region_bytes": sum(replay["region_bytes"] for replay in replays),
            "snapshot_bytes": sum(replay["snapshot_bytes"] for replay in replays),
            "resident_bytes": sum(replay["resident_bytes"] for replay in replays),
            **{f"{p}_s": median(getattr(e, f"{p}_s") for e in to) for p in PARTS},
            "memcpy_s": await run.memcpy_s(name),
        }


PARTS = ("pause", "weights", "resume", "total")


@scenario
async def every_step_needs_the_device(run: Any) -> None:
    """The prefill engine, resumed without owning the devices, refuses to run and dies of it."""
    from seesaw_worker.modes.resharding import requests

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
        self.events: list[Any] = []
        self.notes: dict[str, Any] = {}

    async def make_transitions(self, count: int) -> None:
        from seesaw_core.resharding.policy import Phase, Switch

        wanted = self.llm.controller.num_transitions + count
        for _ in range(count // 2):
            self.told.steps += [Switch(to=p, reason="told") for p in (Phase.PREFILL, Phase.DECODE)]
        while self.llm.controller.num_transitions < wanted:
            assert not self.died.is_set(), "an engine has died"
            await asyncio.sleep(0.02)

    async def own(self, phase: Any) -> None:
        """Give the devices to a phase's engine."""
        from seesaw_core.resharding.policy import Switch

        self.told.steps.append(Switch(to=phase, reason="told"))
        while self.told.steps or self.llm.controller.driver.phase is not phase:
            assert not self.died.is_set(), "an engine has died"
            await asyncio.sleep(0.01)

    async def memcpy_s(self, name: str) -> float:
        """Seconds of a plain copy of as many bytes, all ranks at once: the slowest, the median."""
        from seesaw_core.resharding.policy import Phase

        phase = Phase(name)
        await self.own(phase)
        core = getattr(self.llm.cores, name)
        rounds = [await core.collective_rpc_async("seesaw_memcpy_s") for _ in range(5)]
        return float(median(max(seconds for _, seconds in ranks) for ranks in rounds))

    async def decode_digests(self) -> list[str]:
        digests: list[str] = await self.llm.cores.decode.collective_rpc_async("seesaw_digests")
        return digests

    async def digests_of_both(self) -> tuple[list[str], list[str]]:
        """Every rank's weights, as its own engine finds them when it owns the devices."""
        from seesaw_core.resharding.policy import Phase

        found = []
        for phase, core in (
            (Phase.PREFILL, self.llm.cores.prefill),
            (Phase.DECODE, self.llm.cores.decode),
        ):
            await self.own(phase)
            found.append(await core.collective_rpc_async("seesaw_digests"))
        return found[0], found[1]

    async def reshard_one(self, *, num_tokens: int, corrupt: bool) -> list[int]:
        from vllm import SamplingParams

        from seesaw_core.resharding.policy import Admit, Phase, Switch

        async def generate() -> list[int]:
            prompt = {"prompt_token_ids": [(7 * i) % 900 + 10 for i in range(num_tokens)]}
            params = SamplingParams(temperature=0.0, max_tokens=4, ignore_eos=True)
            outputs = [o async for o in self.llm.generate(prompt, params, "one")]
            return list(outputs[-1].outputs[0].token_ids)

        self.told.steps += [
            Switch(to=Phase.PREFILL, reason="told"),
            Admit(prompts=(), reason="told"),
        ]
        asking = asyncio.create_task(generate())
        ledger = self.llm.controller.driver.ledger
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


async def _play(name: str, model: Path, setup: Setup) -> None:
    from vllm.engine.arg_utils import AsyncEngineArgs

    from seesaw_core.resharding.policy import PhasePolicy
    from seesaw_worker.modes import preflight
    from seesaw_worker.modes.resharding import configs, sizes
    from seesaw_worker.modes.resharding.llm import start_llm
    from seesaw_worker.processes.shm import RunFolder
    from seesaw_worker.settings.engine import WeightsMode
    from seesaw_worker.settings.worker import WorkerSettings

    args = AsyncEngineArgs(model=str(model), **ENGINE | setup.engine)
    settings = WorkerSettings(
        prefill=setup.prefill,
        decode=setup.decode,
        kv_buffer_gib=0.03,
        shm_dir=Path("/dev/shm"),
        policy=PhasePolicy(),
        weights=WeightsMode.SHARED,
        drain_timeout_s=5.0,
        verify_kv=True,
        always_replay=setup.always_replay,
    )
    folder = RunFolder.create(settings.shm_dir)
    told, died, events = Told(), asyncio.Event(), list[Any]()

    class Listener:
        def transition_done(self, event: Any) -> None:
            events.append(event)

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
            made, policy=told, observer=Listener(), on_death=lambda _: died.set(), log_stats=False
        )
        run = Run(llm, told, died)
        run.events = events
        await SCENARIOS[name](run)
        notes_of(name, model).write_text(json.dumps(run.notes))
    finally:
        folder.close()


def notes_of(name: str, model: Path) -> Path:
    return model.parent / f"{name}.json"


def play(name: str, model: Path, setup: Setup | None = None) -> Any:
    """Run one scenario in a fresh process. Fails with its output; returns what it noted."""
    fields = asdict(setup or Setup())
    code = (
        "import asyncio, os, sys, traceback\n"
        "from importlib.util import module_from_spec, spec_from_file_location\n"
        "from pathlib import Path\n"
        "if __name__ == '__main__':\n"
        "    from seesaw_cli.worker import set_defaults\n"
        "    set_defaults()\n"
        "    os.environ['SEESAW_SERVER_PID'] = str(os.getpid())\n"
        "    os.environ['TORCHDYNAMO_DISABLE'] = '1'\n"
        "    from seesaw_worker.processes.forking import start_fork_server\n"
        "    start_fork_server()\n"
        f"    spec = spec_from_file_location('scenarios', {__file__!r})\n"
        "    module = module_from_spec(spec)\n"
        "    spec.loader.exec_module(module)\n"
        "    from seesaw_worker.processes.watchdog import kill_children\n"
        "    code = 1\n"
        "    try:\n"
        f"        setup = module.Setup.of({fields!r})\n"
        f"        asyncio.run(module._play({name!r}, Path({str(model)!r}), setup))\n"
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
        [sys.executable, "-m", "seesaw_worker.processes.supervisor", sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, (ended.stdout + ended.stderr)[-6000:]
    return json.loads(notes_of(name, model).read_text())


def made(tmp_path: Path, spec: ModelSpec) -> Path:
    model = tmp_path / "model"
    write_checkpoint(model, replace(spec, max_position_embeddings=2048))
    return model


@pytest.mark.parametrize(
    ("spec", "setup"),
    [
        pytest.param(TINY, Setup(), id="llama PP2-TP2"),
        pytest.param(
            TINY_MQA,
            Setup(prefill=Layout(tensor=2), decode=Layout(pipeline=2)),
            id="one KV head TP2-PP2",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            TINY_MIXTRAL, Setup(), id="mixture of experts PP2-TP2", marks=pytest.mark.slow
        ),
    ],
)
def test_weights_after_100_transitions_are_bit_identical(
    spec: ModelSpec, setup: Setup, tmp_path: Path
) -> None:
    play("weights_after_100_transitions", made(tmp_path, spec), setup)


def test_equal_layouts_copy_nothing_unless_every_transition_shall(tmp_path: Path) -> None:
    model, alone = made(tmp_path, TINY), Setup(prefill=Layout(), decode=Layout())
    skipped = play("figures_of_100_transitions", model, alone)
    assert [skipped[role]["weight_bytes"] for role in ("prefill", "decode")] == [0, 0]
    forced = play("figures_of_100_transitions", model, replace(alone, always_replay=True))
    for role in ("prefill", "decode"):
        assert forced[role]["weight_bytes"] >= forced[role]["region_bytes"] > 0
        assert forced[role]["snapshot_bytes"] == 0


def test_kv_arrives_bit_for_bit_and_a_flipped_bit_stops_the_worker(tmp_path: Path) -> None:
    model = made(tmp_path, TINY)
    play("kv_arrives_bit_for_bit", model)
    play("corrupted_kv_is_noticed", model)


def test_an_engine_that_does_not_own_the_devices_cannot_run_a_step(tmp_path: Path) -> None:
    play("every_step_needs_the_device", made(tmp_path, TINY))
