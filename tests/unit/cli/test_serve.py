"""``seesaw serve`` refuses what would keep its router from its worker, before anything starts."""

from pathlib import Path

import pytest

from seesaw_cli.serve.command import run
from seesaw_cli.serve.flags import REFUSED, check_worker_flags
from seesaw_core.errors import InputError


@pytest.mark.parametrize("flag", REFUSED)
@pytest.mark.parametrize("form", ["{}=x", "{} x", "config"])
def test_a_flag_that_would_hide_the_worker_is_refused(flag: str, form: str, tmp_path: Path) -> None:
    file = tmp_path / "flags.yaml"
    file.write_text(f"{flag[2:].replace('-', '_')}: x\n")
    given = f"--config={file}" if form == "config" else form.format(flag)
    with pytest.raises(InputError, match=f"^{flag}.* does not work with seesaw serve"):
        run(["my/model", *given.split()])


@pytest.mark.parametrize("name", ["host", "port"])
def test_a_file_of_flags_does_not_move_the_worker(name: str, tmp_path: Path) -> None:
    file = tmp_path / "flags.yaml"
    file.write_text(f"{name}: 1\n")
    with pytest.raises(InputError, match=f"^--{name} in --config=") as refused:
        check_worker_flags(["--config", str(file)])
    assert "on the command line" in str(refused.value)


def test_flags_about_the_model_pass() -> None:
    check_worker_flags(["my/model", "--api-key=k", "--seed", "3", "--use-tqdm-on-load"])
