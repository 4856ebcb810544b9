"""Every setting of the operator is set by a flag, and explained."""

import dataclasses

import pytest
from pydantic import ValidationError

from seesaw_core.errors import InputError
from seesaw_operator.api.spec import Spec
from seesaw_operator.flags import parser, settings_of
from seesaw_operator.settings import Images, OperatorSettings, Timing

IMAGES = ("--worker-image=w", "--worker-cpu-image=c", "--router-image=r")
CHANGES = {
    "--image-pull-policy=Never": "images.pull_policy",
    "--image-pull-secret=s": "images.pull_secrets",
    "--namespace=n": "namespaces",
    "--lease-namespace=n": "lease_namespace",
    "--lease-name=n": "lease_name",
    "--pre-stop-s=9": "timing.pre_stop_s",
    "--drain-s=9": "timing.drain_s",
    "--progress-s=9": "timing.progress_s",
    "--start-s=9": "timing.start_s",
    "--measure-every-s=9": "measure_every_s",
    "--resync-s=9": "resync_s",
    "--port=9": "port",
    f"--profiles={__file__}": "profiles",
    "--log-level=debug": "log.level",
    "--log-format=json": "log.format",
}


def flat(settings: OperatorSettings) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in dataclasses.asdict(settings).items():
        inner = value if isinstance(value, dict) else {"": value}
        found |= {f"{name}.{key}".rstrip("."): below for key, below in inner.items()}
    return found


def test_each_flag_sets_one_setting_and_no_setting_is_without_a_flag() -> None:
    before = flat(settings_of(IMAGES))
    for flag, path in CHANGES.items():
        after = flat(settings_of([*IMAGES, flag]))
        assert {p for p in before if before[p] != after[p]} == {path}, flag
    given = {"images.worker", "images.worker_cpu", "images.router"}
    assert set(CHANGES.values()) | given == set(before)


@pytest.mark.parametrize(
    "flag", ["--pre-stop-s=0", "--measure-every-s=0", "--resync-s=-1", "--port=70000"]
)
def test_a_figure_out_of_range_is_named(flag: str) -> None:
    with pytest.raises(InputError, match=flag.partition("=")[0]):
        settings_of([*IMAGES, flag])


@pytest.mark.parametrize(
    ("image", "is_one"),
    [
        ("seesaw-router", True),
        ("localhost:5000/a/b_c:1.0-RC@sha256:" + "a" * 64, True),
        ("Registry.example.com/team/seesaw-router:0.1.0", True),
        ("a@sha512:" + "a" * 128, True),
        ("a@sha256:abc", False),
        ("a@sha256:" + "A" * 64, False),
        ("a b", False),
        ("a:", False),
        ("a:1:2", False),
        ("a/", False),
        ("Seesaw", False),
        ("a\n", False),
    ],
)
def test_an_image_is_one_that_can_be_pulled(image: str, is_one: bool) -> None:
    resource = {"model": {"uri": "a/b"}, "accelerator": {"count": 1}}
    given = [*IMAGES, f"--router-image={image}"]
    if is_one:
        assert settings_of(given).images.router == image
        return
    with pytest.raises(InputError, match="--router-image: must be the name of an image"):
        settings_of(given)
    with pytest.raises(ValidationError, match=r"router\.image"):
        Spec.model_validate({**resource, "router": {"image": image}})


def test_every_setting_and_every_flag_is_explained() -> None:
    for kind in (Images, Timing, OperatorSettings):
        explained = [line.partition(":")[0] for line in (kind.__doc__ or "").split("\n")]
        for field in dataclasses.fields(kind):
            assert any(field.name in line for line in explained), field.name
    for action in parser()._actions:
        assert action.help, action.dest
