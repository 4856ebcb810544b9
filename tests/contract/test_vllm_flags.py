"""Each flag of ``vllm serve`` has one fate beside re-sharding, and it meets it however written."""

from argparse import Namespace
from pathlib import Path

import pytest
from vllm import envs

from seesaw_core.errors import UnsupportedError
from seesaw_worker.server.commandline import make_parser, parse, vllm_defaults
from seesaw_worker.server.flags import FLAGS
from seesaw_worker.upstream import vllm_flags
from seesaw_worker.upstream.vllm_environment import VARIABLES, refuse_environment
from seesaw_worker.upstream.vllm_flags import BY_FLAG, KINDS, Scope, refuse_vllm_flags


@pytest.fixture(scope="module")
def defaults() -> dict[str, object]:
    return vllm_defaults()


def test_the_table_holds_every_flag_of_vllm_once_and_no_other() -> None:
    ours = {flag.attribute for flag in FLAGS}
    of_vllm = {action.dest for action in make_parser()._actions} - ours - {"help"}
    listed = [name for kind in KINDS for name in kind.flags.split()]
    assert len(listed) == len(set(listed))
    assert of_vllm - set(listed) == set(), "new in vLLM: say what re-sharding makes of them"
    assert set(listed) - of_vllm == set(), "gone from vLLM"


@pytest.mark.parametrize(
    "name", [n for n, kind in BY_FLAG.items() if kind.refused is not Scope.NOWHERE]
)
def test_a_flag_that_does_not_go_is_refused_by_name(name: str, defaults: dict[str, object]) -> None:
    args = Namespace(**defaults | {name: "another"})
    with pytest.raises(UnsupportedError, match=f"^--{name.replace('_', '-')}=another") as refused:
        refuse_vllm_flags(args, defaults, reshards=True, shares_weights=True)
    assert BY_FLAG[name].way_out in str(refused.value)


def test_plain_vllm_takes_what_only_resharding_refuses(defaults: dict[str, object]) -> None:
    for name, kind in BY_FLAG.items():
        args = Namespace(**defaults | {name: "another"})
        if kind.refused is not Scope.EVERYWHERE:
            refuse_vllm_flags(args, defaults, reshards=False, shares_weights=True)


def test_a_flag_that_nobody_has_looked_at_is_refused(defaults: dict[str, object]) -> None:
    known = defaults | {"brand_new": None}
    args = Namespace(**known | {"brand_new": 7})
    with pytest.raises(UnsupportedError, match=r"--brand-new=7 .* does not know"):
        refuse_vllm_flags(args, known, reshards=True, shares_weights=True)


@pytest.mark.parametrize(
    "written",
    [
        ("--kv-offloading-size", "4"),
        ("--kv-offloading-size=4",),
        ("--kv_offloading_size=4",),
        ("--kv-offloading-s=4",),
        ("--config", "FILE"),
        ("--config=FILE",),
        ("--kv-transfer-config.kv_connector=Mine", "--kv-transfer-config.kv_role=kv_both"),
        ("--kv-transfer-config", '{"kv_connector": "OffloadingConnector", "kv_role": "kv_both"}'),
        ("-sc", '{"method": "ngram", "num_speculative_tokens": 2}'),
        ("--no-disable-hybrid-kv-cache-manager",),
    ],
    ids=" ".join,
)
def test_it_does_not_matter_how_a_flag_is_written(
    written: tuple[str, ...], defaults: dict[str, object], tmp_path: Path
) -> None:
    file = tmp_path / "flags.yaml"
    file.write_text("kv-offloading-size: 4\n")
    args = parse([str(tmp_path), *(part.replace("FILE", str(file)) for part in written)])
    with pytest.raises(UnsupportedError, match=r"^--.* does not work with re-sharding"):
        refuse_vllm_flags(args, defaults, reshards=True, shares_weights=True)


def test_every_variable_that_is_refused_is_one_of_vllms() -> None:
    assert set(VARIABLES) <= set(envs.environment_variables)
    assert "VLLM_PLUGINS" in envs.environment_variables


@pytest.mark.parametrize("name", [*VARIABLES, "VLLM_PLUGINS"])
def test_a_variable_that_does_not_go_is_refused_by_name(name: str) -> None:
    with pytest.raises(UnsupportedError, match=f"^{name}=another in the environment"):
        refuse_environment({name: "another"})
    refuse_environment({"VLLM_PLUGINS": "mine,seesaw", "VLLM_WORKER_MULTIPROC_METHOD": "spawn"})


def test_the_table_says_why_in_words() -> None:
    assert all(kind.why and kind.flags.split() for kind in vllm_flags.KINDS)
