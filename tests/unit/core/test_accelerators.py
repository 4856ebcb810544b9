"""The catalogue is whole, and users' own entries are checked."""

import json
import tomllib
from importlib.resources import files

import pytest

from seesaw_core.errors import InputError
from seesaw_core.planner.accelerators import builtin_catalogue, read_catalogue
from seesaw_core.planner.profiles import Profile, read_profile

OWN = """
[[interconnect]]
name = "backplane"
kind = "pcie"
gb_per_s = 8

[[accelerator]]
name = "Mine"
memory_gib = 48
memory_gb_per_s = 900
tflops_16 = 200
host_link = "backplane"
peer_link = "pcie4x16"
"""


def test_every_figure_of_the_catalogue_has_its_source() -> None:
    found = tomllib.loads((files("seesaw_core.planner") / "accelerators.toml").read_text())
    for device in found["accelerator"]:
        assert set(device["sources"]) == {"memory", "bandwidth", "tflops", "link"}, device["name"]
    assert all(link["source"] for link in found["interconnect"])
    names = {"A10", "L4", "L40S", "A100-PCIe-40", "A100-SXM-80", "H100-SXM", "H200", "MI300X"}
    assert names <= set(builtin_catalogue().accelerators)


def test_a_device_is_found_by_its_product_label_in_any_case() -> None:
    assert builtin_catalogue().accelerator("nvidia-l4").name == "L4"


def test_own_accelerators_extend_the_catalogue() -> None:
    found = read_catalogue(OWN, source="mine.toml", extends=builtin_catalogue())
    assert found.accelerator("mine").host_link.bytes_per_s == 8e9
    assert found.accelerator("A10").memory_bytes_per_s == 600e9


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "memory_gib = 48",
            "memory_gib = 0",
            "'Mine': memory_gib=0 must be a number from 0.01 to 10,000,000",
        ),
        ("memory_gib = 48", "", "'Mine' lacks memory_gib"),
        ('"pcie4x16"', '"wire"', "interconnect 'wire' is not known; known:"),
        ("tflops_16", "tflop_16", "'Mine' lacks tflops_16"),
        ("memory_gib = 48", "memory_gib = 48\nwatts = 300", r"\['watts'\] unknown; known:"),
        ("[[accelerator]]", "[[accelerators]]", r"\['accelerators'\] unknown"),
        ("[[accelerator]]", "[[accelerator", "is not TOML"),
        (OWN, "accelerator = 3", r"accelerator must be tables, written \[\[accelerator\]\]"),
        ("tflops_16 = 200", "tflops_16 = nan", "tflops_16=nan must be a number from 0.01"),
    ],
)
def test_an_entry_that_does_not_do_is_refused_naming_the_field(
    old: str, new: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_catalogue(OWN.replace(old, new), source="mine.toml", extends=builtin_catalogue())


def test_an_unknown_accelerator_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="'H42' is not known; did you mean"):
        builtin_catalogue().accelerator("H42")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"memory_share": 1.5}, "memory_share=1.5 must be from 0.001 to 1"),
        ({"send_latency_us": -1}, "send_latency_us=-1 must be from 0 to 1,000,000,000"),
        ({"speed": 1}, r"\['speed'\] unknown; known:"),
        ({"memory_share": "much"}, "memory_share='much' must be a number"),
    ],
)
def test_a_profile_that_does_not_do_is_refused(found: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_profile(json.dumps(found), source="p.json")


def test_a_profile_is_read_from_what_calibrate_writes_as_well() -> None:
    expected = Profile(memory_share=0.5)
    for found in ({"memory_share": 0.5}, {"profile": {"memory_share": 0.5}, "measured": []}):
        assert read_profile(json.dumps(found), source="p.json") == expected
    for text, message in (("{", "p.json is not JSON"), ("3", "p.json must hold an object")):
        with pytest.raises(InputError, match=message):
            read_profile(text, source="p.json")
