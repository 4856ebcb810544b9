"""The benchmark's arithmetic: what it reports must be what was measured."""

import asyncio
import json
import socket
from pathlib import Path

import pytest

from seesaw_bench.worker.link import answer
from seesaw_bench.worker.memory import Kind, parse_smaps
from seesaw_bench.worker.policy import Mode, ScriptedPolicy
from seesaw_bench.worker.spread import Spread
from seesaw_bench.worker.targets import Target
from seesaw_bench.worker.workload import ModelFacts, Workload
from seesaw_core.errors import InputError, ModelError
from seesaw_core.resharding.policy import Candidate, Costs, InPlace, Phase, Step, Switch, View, Wait
from seesaw_worker.synthetic import TINY, weights_bytes, write_checkpoint

_SMAPS = """\
7f00-7f10 r--s 00000000 fe:00 12  /models/a model/weights.safetensors
Size:                 64 kB
Rss:                  40 kB
Pss:                  10 kB
Private_Clean:         0 kB
Private_Dirty:         4 kB
VmFlags: rd sh mr mw me ms
7f10-7f20 rw-s 00000000 00:19 13  /dev/shm/seesaw-1-ab/arena-0 (deleted)
Rss:                  20 kB
Pss:                  10 kB
7f20-7f30 rw-p 00000000 00:00 0
Rss:                   8 kB
Pss:                   8 kB
Private_Dirty:         8 kB
7f30-7f40 rw-p 00000000 00:00 0   [heap]
Rss:                   4 kB
Pss:                   4 kB
7f40-7f50 r-xp 00000000 fe:00 14  /usr/lib/libc.so.6
Rss:                  12 kB
Pss:                   2 kB
"""


def _view(phase: Phase, *waiting: int) -> View:
    return View(
        phase=phase,
        phase_age_s=0.0,
        waiting=tuple(Candidate(key=str(n), num_tokens=n) for n in waiting),
        oldest_wait_s=0.0,
        num_prefilling=0,
        num_decoding=1,
        decode_has_room=True,
        free_tokens=1000,
        stored_tokens=0,
        capacity_tokens=1000,
        block_size=32,
        costs=Costs(),
    )


def test_ratios_are_taken_round_by_round() -> None:
    ratios = Spread.of_ratios(Spread.of([2.0, 30.0, 4.0]), Spread.of([1.0, 10.0, 4.0]))

    assert ratios.values == (2.0, 3.0, 1.0)
    assert (ratios.median, ratios.min, ratios.max) == (2.0, 1.0, 3.0)


def test_a_spread_needs_a_value() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        Spread.of([])


def test_mappings_are_told_apart_and_paths_may_hold_spaces() -> None:
    mappings = list(parse_smaps(_SMAPS.splitlines()))

    assert [(m.kind, m.proportional >> 10) for m in mappings] == [
        (Kind.HOST_WEIGHTS, 10),
        (Kind.ARENA, 10),
        (Kind.PRIVATE, 8),
        (Kind.PRIVATE, 4),
        (Kind.LIBRARIES, 2),
    ]
    assert mappings[0].resident == 40 << 10
    assert mappings[0].private == 4 << 10


@pytest.mark.parametrize(
    ("mode", "view", "step"),
    [
        pytest.param(Mode.HOLD, _view(Phase.DECODE, 5), Wait, id="holds over waiting prompts"),
        pytest.param(Mode.HOLD, _view(Phase.PREFILL), Switch, id="holds in decode"),
        pytest.param(Mode.PREFILL, _view(Phase.DECODE), Switch, id="goes to prefill"),
        pytest.param(Mode.PREFILL, _view(Phase.PREFILL, 5), Wait, id="stays in prefill"),
        pytest.param(Mode.IN_PLACE, _view(Phase.DECODE, 5, 6), InPlace, id="prefills in place"),
        pytest.param(Mode.RESHARD, _view(Phase.DECODE, 5), Switch, id="asks the worker's policy"),
    ],
)
def test_the_policy_does_as_it_is_told(mode: Mode, view: View, step: type[Step]) -> None:
    assert isinstance(ScriptedPolicy(mode).next_step(view), step)


def test_a_target_knows_its_side() -> None:
    ratio = Spread.of([1.2, 1.25, 1.4])

    assert Target(name="a", title="a", ratio=ratio, bound=1.3, at_most=True).met
    assert not Target(name="a", title="a", ratio=ratio, bound=1.3).met


def test_a_model_tells_how_large_its_kv_is(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "model", TINY)

    facts = ModelFacts.read(tmp_path / "model")

    assert facts.dtype == "float32"
    assert facts.token_bytes == TINY.num_layers * TINY.num_kv_heads * TINY.head_dim * 2 * 4
    assert facts.weights_bytes >= weights_bytes(TINY)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be computed"):
        ModelFacts.read(tmp_path)


def test_a_benchmark_without_rounds_is_refused() -> None:
    with pytest.raises(InputError, match="--rounds must be at least 1, got 0"):
        Workload(rounds=0)


async def test_a_subject_answers_tells_errors_and_ends_when_the_benchmark_hangs_up() -> None:
    ours, theirs = socket.socketpair()
    begun = asyncio.Event()

    async def double(number: int) -> int:
        return 2 * number

    async def hang() -> None:
        begun.set()
        await asyncio.Event().wait()

    subject = asyncio.create_task(answer(theirs.detach(), {"double": double, "hang": hang}))
    reader, writer = await asyncio.open_connection(sock=ours)

    writer.write(b'{"do": "double", "number": 21}\n')
    assert json.loads(await reader.readline()) == {"value": 42}
    writer.write(b'{"do": "fly"}\n')
    assert "KeyError" in json.loads(await reader.readline())["error"]
    writer.write(b'{"do": "hang"}\n')
    await begun.wait()
    writer.close()
    await asyncio.wait_for(subject, 5)
