"""What ``seesaw calibrate`` makes of several rounds."""

from pathlib import Path

import pytest

from seesaw_cli.calibrate import command as calibrate
from seesaw_cli.calibrate.rounds import Bench
from seesaw_cli.calibrate.runs import Machine, Result, Run
from seesaw_core.errors import BrokenError, InputError
from seesaw_core.planner.accelerators import builtin_catalogue
from seesaw_core.planner.model_configs import describe_model
from seesaw_core.planner.workloads import Request

CONFIG = {
    "num_hidden_layers": 4,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 100,
}
SWEPT, CHECKED = (
    Run(name=name, requests=(Request(prompt_tokens=8, output_tokens=2),) * count)
    for name, count in (("swept", 2), ("checked", 3))
)
BENCH = Bench(
    model=describe_model(CONFIG, name="small"),
    device=builtin_catalogue().accelerator("L4"),
    machine=Machine(
        model=Path("model"),
        dtype="auto",
        on_cpu=True,
        longest=1024,
        pool_bytes=1 << 20,
        step_tokens=512,
        max_requests=32,
        buffer_gib=1.0,
        flush_timeout_s=10.0,
        log=Path("log"),
    ),
    devices=2,
)
TENSOR, PIPELINE, PAIR = BENCH.systems


def test_a_machine_that_slows_down_evenly_slows_down_all_systems_alike() -> None:
    moments: dict[str, list[int]] = {}
    for moment, (_, system) in enumerate(BENCH.turns(2)):
        moments.setdefault(str(system), []).append(moment)
    assert {name: sum(each) for name, each in moments.items()} == {"T2": 5, "P2": 5, "P2→T2": 5}


def result(swept_s: list[float], checked_s: list[float], transition_s: float | None) -> Result:
    return Result(sweep={SWEPT: swept_s}, checks={CHECKED: checked_s}, transition_s=transition_s)


def test_rounds_are_pooled_and_the_fit_sees_neither_checks_nor_the_pair() -> None:
    found = BENCH.fold(
        [
            (TENSOR, result([1.0, 1.1, 9.0], [2.0, 2.0, 2.0], None)),
            (PIPELINE, result([3.0], [4.0], None)),
            (PAIR, result([7.0], [5.0], 0.2)),
            (TENSOR, result([1.2, 1.3, 1.4], [2.0, 2.1, 2.2], None)),
            (PIPELINE, result([3.0], [6.0], None)),
            (PAIR, result([70.0], [5.0], 0.4)),
        ]
    )
    assert [(m.name, m.seconds) for m in found.sweep] == [
        ("T2 swept", pytest.approx(1.25)),
        ("P2 swept", 3.0),
    ]
    assert [(m.name, m.seconds) for m in found.checks] == [
        ("T2 checked", 2.0),
        ("P2 checked", 5.0),
        ("P2→T2 checked", 5.0),
    ]
    assert found.transition_s == pytest.approx(0.3)
    assert (found.least_steady, found.spread) == ("P2 checked", 0.5), "not the pair's own sweep"


def test_a_pair_that_never_re_shards_is_no_measurement() -> None:
    with pytest.raises(
        BrokenError, match="P2→T2 never re-sharded, although --reshard=always was set"
    ):
        BENCH.fold([(system, result([1.0], [1.0], None)) for system in BENCH.systems])


def test_no_rounds_are_refused_naming_the_flag() -> None:
    with pytest.raises(InputError, match="--rounds: must be a whole number from 1"):
        calibrate.run(["model", "--devices=2", "--rounds=0"])
