"""``seesaw bench models`` holds counts of public models against published ones."""

import json
from pathlib import Path

import pytest

from seesaw_bench.models import command
from seesaw_core.errors import InputError
from support.public_configs import DEEPSEEK_V3, GPT_OSS_20B


def test_each_model_is_planned_and_held_against_its_published_parameters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, config in (
        ("deepseek-ai--DeepSeek-V3", DEEPSEEK_V3),
        ("openai--gpt-oss-20b", GPT_OSS_20B),
    ):
        (tmp_path / f"{name}_config.json").write_text(json.dumps(config))
    assert command.run(["--configs", str(tmp_path)]) == 0
    first, second, _, total = capsys.readouterr().out.splitlines()[1:]
    assert "671.03 B   671.03 B  -0.00 %" in first
    assert first.endswith("D2T8, static: its latent attention has no KV heads to divide")
    assert "20.91 B" in second
    assert total.startswith("2 of 2 are planned, with parameters within 1 %")


def test_a_model_that_is_refused_or_off_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    off, refused = GPT_OSS_20B | {"vocab_size": 300_000}, {"num_hidden_layers": 2}
    for name, config in (("openai--gpt-oss-20b", off), ("openai--gpt-oss-120b", refused)):
        (tmp_path / f"{name}_config.json").write_text(json.dumps(config))
    assert command.run(["--configs", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert "refused: " in shown
    assert "+2.69 %" in shown
    assert "0 of 2 are planned" in shown


def test_every_config_of_the_package_has_a_published_count() -> None:
    assert len(command.read_published()) == 89


def test_a_folder_without_configs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no NAME_config\.json"):
        command.run(["--configs", str(tmp_path)])
