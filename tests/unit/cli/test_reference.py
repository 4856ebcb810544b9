"""The generated reference is up to date, and no setting is without a flag."""

import dataclasses
import operator
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import pytest

from seesaw_core.errors import InputError, LayoutError
from seesaw_core.layouts import Layout
from seesaw_generate import crd
from seesaw_generate.chart.__main__ import FILES
from seesaw_generate.flags import EXIT_CODES, ROUTES, reference
from seesaw_operator.api.crd import document
from seesaw_worker.modes.static.mode import StaticMode
from seesaw_worker.server.flags import FLAGS, add_flags
from seesaw_worker.server.settings import settings_of
from seesaw_worker.server.telemetry import Telemetry
from seesaw_worker.settings.flag import Flag
from seesaw_worker.settings.worker import WorkerSettings

ROOT = Path(__file__).parents[3]
OTHER_VALUES = {
    "--decode-tensor-parallel-size": "2",
    "--decode-pipeline-parallel-size": "2",
    "--prefill-tensor-parallel-size": "4",
    "--prefill-pipeline-parallel-size": "3",
    "--reshard": "never",
    "--kv-buffer-gib": "1.5",
    "--weights": "resident",
    "--flush-timeout-s": "2.5",
    "--low-watermark": "0.4",
    "--dwell-transitions": "5",
    "--shm-dir": "/tmp",
    "--verify-kv": None,
    "--always-replay-weights": None,
    "--drain-timeout-s": "7",
    "--stall-unhealthy-s": "7",
    "--stall-exit-s": "700",
    "--load-exit-s": "700",
    "--elastic-instances": "2",
    "--elastic-timeout-s": "30",
    "--parallelism": "manual",
    "--accelerator": "L4",
    "--plan-accelerators": __file__,
    "--devices": "8",
    "--plan-prompt-tokens": "3000",
    "--plan-output-tokens": "30",
    "--plan-concurrency": "64",
    "--plan-profile": __file__,
}


FOUR = ("--decode-tensor-parallel-size=4",)
AUTO = ("--parallelism=auto",)


def parsed(*arguments: str) -> Namespace:
    return parsed_alone(*FOUR, *arguments)


def parsed_alone(*arguments: str) -> Namespace:
    parser = ArgumentParser()
    parser.add_argument("--tensor-parallel-size", type=int, default=1)
    parser.add_argument("--pipeline-parallel-size", type=int, default=1)
    add_flags(parser)
    return parser.parse_args([*arguments])


def test_the_reference_in_the_docs_is_what_the_code_says() -> None:
    committed = (ROOT / "docs/reference-flags.md").read_text()
    assert committed == reference() + "\n", "run `make docs`"


def test_the_reference_of_the_resource_is_what_the_code_says() -> None:
    committed = (ROOT / "docs/reference-crd.md").read_text()
    assert committed == crd.reference() + "\n", "run `make docs`"


def test_the_definition_in_chart_and_manifests_is_what_the_code_says() -> None:
    for place in ("charts/seesaw/files/crd.yaml", "manifests/base/crd.yaml"):
        assert (ROOT / place).read_text() == document(), f"{place}: run `make docs`"


@pytest.mark.parametrize("name", FILES)
def test_what_is_made_of_the_chart_is_what_the_code_says(name: str) -> None:
    assert (ROOT / "charts/seesaw" / name).read_text() == FILES[name](), "run `make docs`"


def test_every_setting_is_set_by_a_flag_and_documented() -> None:
    fields = {f.name for f in dataclasses.fields(WorkerSettings)}
    assert {flag.sets.partition(".")[0] for flag in FLAGS} == fields
    explained = (WorkerSettings.__doc__ or "").split("\n")
    for field in fields:
        assert any(f"{field}" in line.partition(":")[0] for line in explained), field


@pytest.mark.parametrize("flag", FLAGS, ids=lambda flag: flag.name)
def test_every_flag_changes_the_setting_that_it_names(flag: Flag) -> None:
    read = operator.attrgetter(flag.sets)
    value = OTHER_VALUES[flag.name]
    base = AUTO if flag.sets.startswith("planning.") else FOUR
    changed = settings_of(parsed_alone(*base, flag.name, *([] if value is None else [value])))
    assert read(changed) != read(settings_of(parsed_alone(*base)))


@pytest.mark.parametrize("flag", FLAGS, ids=lambda flag: flag.name)
def test_every_flag_is_explained_in_sentences(flag: Flag) -> None:
    assert flag.help.endswith(".")
    assert flag.help in reference()
    assert flag.name in reference()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--tensor-parallel-size=0",), "--tensor-parallel-size=0"),
        (("--pipeline-parallel-size=-3",), "--pipeline-parallel-size=-3"),
        (("--prefill-tensor-parallel-size=3",), "does not divide the 4 devices"),
        (("--tensor-parallel-size=2",), "both set the decode layout"),
    ],
)
def test_impossible_sizes_are_named(arguments: tuple[str, ...], says: str) -> None:
    with pytest.raises(LayoutError, match=says):
        settings_of(parsed(*arguments))


@pytest.mark.parametrize(
    "flag",
    [
        "--tensor-parallel-size",
        "--pipeline-parallel-size",
        "--decode-tensor-parallel-size",
        "--decode-pipeline-parallel-size",
        "--prefill-tensor-parallel-size",
        "--prefill-pipeline-parallel-size",
    ],
)
def test_who_lets_the_worker_plan_gives_no_layout(flag: str) -> None:
    with pytest.raises(InputError, match=f"--parallelism=auto and {flag}=2") as refused:
        settings_of(parsed_alone(*AUTO, f"{flag}=2"))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "flag", [f.name for f in FLAGS if f.sets.startswith("planning.")][1:], ids=str
)
def test_what_is_for_a_plan_is_refused_without_one(flag: str) -> None:
    with pytest.raises(InputError, match=f"{flag}=.* add --parallelism=auto"):
        settings_of(parsed(f"{flag}={OTHER_VALUES[flag]}"))


@pytest.mark.parametrize("field", ["kv_buffer_gib", "drain_timeout_s"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_settings_refuse_what_is_no_amount(field: str, value: float) -> None:
    settings: Any = settings_of(parsed())
    with pytest.raises(InputError, match=field.replace("_", "-")):
        dataclasses.replace(settings, **{field: value})


def test_every_route_of_ours_is_listed() -> None:
    from prometheus_client import CollectorRegistry

    from seesaw_worker.server.http import routes

    telemetry = Telemetry(StaticMode(Namespace(), Layout()), CollectorRegistry())
    served = {getattr(route, "path", "") for route in routes(telemetry).routes}
    assert served <= {route.path for route in ROUTES}


def test_exit_codes_are_told_once_each() -> None:
    codes = [code for code, _ in EXIT_CODES]
    assert codes == sorted(set(codes))
