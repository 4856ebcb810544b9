"""Figures that a page repeats are those of the code; constants of the cost model have a source."""

from dataclasses import fields
from pathlib import Path

import pytest

from seesaw_cli.calibrate.command import parser as calibrate
from seesaw_core.planner.choose import MIN_GAIN_TO_RESHARD
from seesaw_core.planner.profiles import Profile
from seesaw_core.planner.proposals import MAX_REJECTIONS, MIN_GAIN_TO_PROPOSE
from seesaw_core.process_memory import PROCESS_BYTES
from seesaw_core.resharding.policy import PhasePolicy
from seesaw_core.units import MIB
from seesaw_worker.modes.resharding import sizes
from seesaw_worker.planning.live import MIN_REQUESTS

DOCS = Path(__file__).parents[3] / "docs"
WORDS = {8: "eight"}
PROCESS_MIB = PROCESS_BYTES // MIB
REPEATED = [
    ("operations.md", f"{PROCESS_MIB} MiB are counted for each: two a device, and three more"),
    ("operations.md", f"a context ({sizes._CONTEXT_BYTES / 2**30:.1f} GiB, and "),
    ("operations.md", f"{sizes._COMMUNICATOR_BYTES / 2**30:.1f} GiB for communication"),
    ("operations.md", f"CUDA graphs ({sizes._GRAPH_BYTES_A_LAYER // MIB} MiB a layer)"),
    ("kubernetes.md", f"at least {round(100 * (MIN_GAIN_TO_PROPOSE - 1))} % better"),
    ("kubernetes.md", f"up to {WORDS[MAX_REJECTIONS]} choices"),
    ("reference-flags.md", f"Up to {WORDS[MAX_REJECTIONS]} choices"),
    ("reference-crd.md", f"Up to {WORDS[MAX_REJECTIONS]} rejected choices"),
    ("reference-flags.md", f"null for the first {MIN_REQUESTS}."),
    ("planning.md", f"`--tolerance` ({calibrate().get_default('tolerance'):g} %)"),
    ("planning.md", f"default flush timeout of {PhasePolicy().flush_timeout_s:g} s"),
]


@pytest.mark.parametrize(("page", "text"), REPEATED)
def test_a_figure_that_a_page_repeats_is_that_of_the_code(page: str, text: str) -> None:
    assert text in " ".join((DOCS / page).read_text().split())


def test_each_constant_of_the_cost_model_has_a_meaning_and_a_source() -> None:
    for constant in fields(Profile):
        if constant.name != "name":
            assert constant.metadata["doc"].endswith("."), constant.name
            assert constant.metadata["source"].endswith("."), constant.name


def test_a_change_of_layouts_must_gain_more_than_the_choice_of_a_pair() -> None:
    assert MIN_GAIN_TO_PROPOSE > MIN_GAIN_TO_RESHARD > 1
