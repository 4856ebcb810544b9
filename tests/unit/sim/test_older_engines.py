"""The baselines' engines: when they look for requests, and how their kernel fills a device."""

from dataclasses import dataclass
from functools import partial

import pytest

from seesaw_core.layouts import Layout, ModelShape
from seesaw_core.planner.accelerators import builtin_catalogue
from seesaw_core.planner.costs import MicroBatch, StepCosts
from seesaw_core.planner.models import dense_model
from seesaw_core.planner.profiles import Profile
from seesaw_core.planner.workloads import Request
from seesaw_sim.clock import Clock
from seesaw_sim.engine import Engine
from seesaw_sim.older_engines import ChunkApieceEngine, Tiling, WholePromptEngine
from seesaw_sim.replicas import Journal
from seesaw_sim.sequences import Sequence
from seesaw_sim.systems.static import StaticServer

MODEL = dense_model(
    name="m",
    shape=ModelShape(num_layers=2, num_heads=2, num_kv_heads=2, head_dim=64),
    hidden=128,
    intermediate=256,
    vocab=1000,
)
TILING = Tiling(multiprocessors=8, heads=2, tile_tokens=10)


@dataclass(frozen=True)
class OneSecond(StepCosts):
    """Every step takes a second."""

    def step_s(self, batch: MicroBatch) -> float:
        return 1.0


COSTS = OneSecond(MODEL, builtin_catalogue().accelerator("A100-SXM-80"), Layout(), Profile())


def whole_prompts(pace: int) -> Engine:
    return WholePromptEngine(
        COSTS, capacity_tokens=1_000, step_tokens=100, max_requests=9, pace=pace
    )


def chunks(pace: int) -> Engine:
    return ChunkApieceEngine(
        COSTS, capacity_tokens=1_000, step_tokens=100, max_requests=9, pace=pace, tiling=TILING
    )


@pytest.mark.parametrize(
    ("engine", "expected_s"),
    [
        pytest.param(whole_prompts(1), [1.0, 5.0, 14.0], id="looks before every step"),
        pytest.param(whole_prompts(10), [1.0, 12.0, 23.0], id="prefills after ten steps"),
        pytest.param(chunks(10), [1.0, 11.0, 21.0], id="chunks are steps like any other"),
    ],
)
def test_requests_wait_for_the_step_before_which_the_router_looks(
    engine: Engine, expected_s: list[float]
) -> None:
    clock = Clock()
    server = StaticServer(clock, engine, 0, Journal())
    served = [
        Sequence(number, Request(arrival_s=arrival_s, prompt_tokens=50, output_tokens=40))
        for number, arrival_s in enumerate((0.0, 3.5, 12.5))
    ]
    for sequence in served:
        clock.at(sequence.arrival_s, partial(server.take, sequence))
    clock.run()
    assert [sequence.first_token_s for sequence in served] == expected_s


def test_a_chunk_of_few_tiles_leaves_multiprocessors_idle() -> None:
    """Four blocks on eight multiprocessors; the last goes through 120 tokens with ten queries."""
    assert TILING.pairs([(100, 20)]) == 10 * 120 * 8 / 2


def test_blocks_of_a_long_context_hold_up_those_that_are_done() -> None:
    short, both = TILING.pairs([(0, 20)]), TILING.pairs([(100, 20), (0, 20)])
    assert both == TILING.pairs([(100, 20)]) > 5 * short


def test_more_blocks_than_multiprocessors_take_turns() -> None:
    """Twelve blocks of one size on eight multiprocessors take two rounds."""
    assert TILING.pairs([(100, 10)] * 6) == 2 * 10 * 110 * 8 / 2
