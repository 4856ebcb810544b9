"""What every flag of every command refuses: found in the parsers, so that none is forgotten."""

import argparse
import importlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from seesaw_bench import simulator
from seesaw_bench.command import BENCHMARKS
from seesaw_bench.elastic import command as bench_elastic
from seesaw_bench.models import command as bench_models
from seesaw_bench.paper import command as paper
from seesaw_bench.planner import command as bench_planner
from seesaw_bench.public import command as bench_public
from seesaw_bench.router import command as bench_router
from seesaw_bench.worker import command as bench_worker
from seesaw_cli import plan
from seesaw_cli.calibrate import command as calibrate
from seesaw_cli.demo import command as demo
from seesaw_cli.main import COMMANDS
from seesaw_cli.simulate import command as simulate
from seesaw_core.errors import InputError
from seesaw_flags.files import InputFile, InputFolder, OutputFile, OutputFolder
from seesaw_flags.parser import CommandParser
from seesaw_flags.values import Number, Text, Whole
from seesaw_operator import flags as operator_flags
from seesaw_router import flags as router_flags
from seesaw_worker.server.flags import add_flags, check_own_flags


def worker_parser() -> CommandParser:
    made = CommandParser("seesaw worker", None, allow_abbrev=False)
    add_flags(made)
    return made


PARSERS = {
    "worker": worker_parser,
    "router": router_flags.parser,
    "serve": router_flags.parser,
    "operator": operator_flags.parser,
    "plan": plan.parser,
    "simulate": simulate.parser,
    "calibrate": calibrate.parser,
    "paper": paper.parser,
    "demo": demo.parser,
    "bench worker": bench_worker.parser,
    "bench elastic": bench_elastic.parser,
    "bench router": bench_router.parser,
    "bench simulator": simulator.parser,
    "bench planner": bench_planner.parser,
    "bench models": bench_models.parser,
    "bench public-figures": bench_public.parser,
}
PATHS = (InputFile, InputFolder, OutputFile, OutputFolder)
NUMBERS = (Whole, Number)
BAD_NUMBERS = (
    *("inf", "-inf", "nan", "-nan", "-1", "1e400", "-1e400", "", " ", str(10**30), "9" * 5000),
    *("٣", "0x10", "1_000", "1 0", "1\n", "one", "½", "+", "1e", "1e300"),
)
KUBECONFIG = """
clusters: [{name: it, cluster: {server: "http://127.0.0.1:9"}}]
contexts: [{name: it, context: {cluster: it, user: it}}]
users: [{name: it, user: {}}]
current-context: it
"""


def actions(*kinds: type) -> Iterator[tuple[str, argparse.Action]]:
    for command, made in PARSERS.items():
        for action in made()._actions:
            if not kinds or isinstance(action.type, kinds):
                yield command, action


def named(*kinds: type) -> list[object]:
    return [
        pytest.param(command, action, id=f"{command} {action.option_strings[-1]}")
        for command, action in actions(*kinds)
    ]


def refusal(command: str, *arguments: str) -> str:
    """What the command says, which it does before it starts or reads anything else."""
    name, *more = command.split()
    run = importlib.import_module(COMMANDS[name].module).run
    with pytest.raises(InputError) as refused:
        run([*more, *arguments])
    said = str(refused.value)
    assert "\n" not in said
    assert len(said) < 400
    return said


def test_every_command_is_tried() -> None:
    benches = {f"bench {name}" for name in BENCHMARKS}
    assert set(PARSERS) == (set(COMMANDS) - {"bench"}) | benches


def test_no_flag_takes_a_number_or_a_path_unchecked() -> None:
    for command, action in actions():
        where = f"seesaw {command} {action.option_strings or action.dest}"
        assert action.type in (None, str) or isinstance(action.type, (*NUMBERS, *PATHS, Text)), (
            where
        )
        if action.type is None and action.nargs != 0:
            assert not isinstance(action.default, int | float | Path), where


@pytest.mark.parametrize(("command", "action"), named(*NUMBERS))
def test_what_is_no_number_is_refused_with_flag_value_and_what_is_allowed(
    command: str, action: argparse.Action
) -> None:
    flag = action.option_strings[-1]
    for value in BAD_NUMBERS:
        said = refusal(command, f"{flag}={value}")
        assert flag in said, value
        assert repr(value)[:40].rstrip("'") in said, value
        assert "must be a" in said, value
    assert "got '-inf'" in refusal(command, flag, "-inf")


def test_no_flag_takes_two_dashes_for_its_value() -> None:
    for command, action in actions():
        if action.nargs != 0 and action.option_strings:
            flag = action.option_strings[-1]
            assert f"{flag}: expected a value, got '--'" in refusal(command, f"{flag}=--")


@pytest.mark.parametrize(
    ("written", "given"),
    [
        ("", "--kv_buf=nan"),
        ("", "--kv-buf nan"),
        ("kv_buffer_gib: nan", ""),
        ("kv-buf: .nan", ""),
        ("kv-buffer-gib: nan", "--kv-buffer-gib=1"),
    ],
)
def test_a_worker_refuses_its_own_flags_at_once_however_they_are_given(
    written: str, given: str, tmp_path: Path
) -> None:
    file = tmp_path / "flags.yaml"
    file.write_text(written or "{}")
    with pytest.raises(InputError, match=r"--kv-buffer-gib: must be .*, got 'nan'") as refused:
        check_own_flags(["model", f"--config={file}", *given.split()])
    assert str(refused.value).startswith(f"--config={file}: " if written else "--kv-buffer-gib")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--config", "names no file"),
        ("--config=a.yaml --config b.yaml", "given twice"),
        ("--config=/no/such.yaml", "--config=/no/such.yaml: No such file"),
        ("--config=/no/such", "must end in .yaml"),
    ],
)
def test_a_worker_refuses_a_file_of_flags_that_cannot_be_one(flags: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        check_own_flags(["model", *flags.split()])


@pytest.mark.parametrize(("command", "action"), named(*NUMBERS))
def test_zero_is_taken_only_where_it_is_allowed(command: str, action: argparse.Action) -> None:
    kind = action.type
    assert isinstance(kind, NUMBERS)
    is_above = isinstance(kind, Number) and kind.above is not None
    if is_above or kind.least > 0:
        assert "got '0'" in refusal(command, f"{action.option_strings[-1]}=0")
    else:
        assert kind("0") == 0


@pytest.mark.parametrize(("command", "action"), named(Text))
def test_what_is_no_name_is_refused_with_flag_value_and_what_is_allowed(
    command: str, action: argparse.Action
) -> None:
    flag = action.option_strings[-1]
    for value in ("", " ", "a b", "a\n", "a/b/c\0", "ü", "x" * 5000):
        said = refusal(command, f"{flag}={value}")
        assert f"{flag}: must be " in said, value
        assert repr(value)[:40].rstrip("'") in said, value


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        *(("--namespace", value) for value in ("a.b", "-a", "a-", "x" * 64)),
        *(("--lease-namespace", value) for value in ("a.b", "x" * 64)),
        *(("--lease-name", value) for value in ("a..b", "a.-b", "x" * 254)),
        *(("--router-image", value) for value in ("://!!", "-x", "a b", "x" * 1025)),
    ],
)
def test_what_kubernetes_would_refuse_is_refused_as_a_flag(flag: str, value: str) -> None:
    assert f"{flag}: must be " in refusal("operator", f"{flag}={value}")


@pytest.mark.parametrize("url", ["", "a", "http://a:99999", "http://a:0", "http://a:x", "http://ü"])
def test_a_worker_s_url_that_cannot_be_one_is_refused(url: str) -> None:
    shown = url if url and url.isascii() else "..."
    assert f"--worker={shown}: must be a URL" in refusal("router", f"--worker={url}")


@pytest.mark.parametrize("command", ["router", "operator"])
def test_a_place_where_nobody_can_listen_is_refused_naming_the_flags(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = tmp_path / "kubeconfig"
    cluster.write_text(KUBECONFIG)
    monkeypatch.setenv("KUBECONFIG", str(cluster))
    images = (f"--{part}-image=x" for part in ("worker", "worker-cpu", "router"))
    more = ("--worker=http://a:1",) if command == "router" else tuple(images)
    with socket.create_server(("", 0)) as taken:
        said = refusal(command, *more, f"--port={taken.getsockname()[1]}")
        assert f"--port={taken.getsockname()[1]}: Address already in use" in said
    for host in ("", "nope.invalid", "192.0.2.1", "x" * 100) if command == "router" else ():
        assert f"--host={host[:40]!r}"[:-1] in refusal(command, *more, f"--host={host}")


@pytest.mark.parametrize(("command", "action"), named(*PATHS))
def test_what_cannot_be_the_path_is_refused_at_once_naming_flag_and_path(
    command: str, action: argparse.Action, tmp_path: Path
) -> None:
    flag = action.option_strings[-1]
    pipe, file, loop = tmp_path / "pipe", tmp_path / "file", tmp_path / "loop"
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    file.write_bytes(b"\xff\x00")
    below = file / "below"
    bad = ["", " ", str(pipe), str(loop), str(below), "/" + "x" * 5000, "a\0b"]
    if isinstance(action.type, InputFile):
        huge = tmp_path / "huge"
        huge.touch()
        os.truncate(huge, action.type.most_bytes + 1)
        bad += [str(huge), str(tmp_path / "missing")]
    bad += [str(tmp_path if isinstance(action.type, InputFile | OutputFile) else file)]
    for path in bad:
        said = refusal(command, f"{flag}={path}")
        assert flag in said, path
        assert repr(path)[:40].rstrip("'") in said, path


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe\x00", b"", b"[", b"[]", b"{", b"[[[[", b"[" * 100_000, b"a = 1\n", b"\0" * 99],
    ids=lambda content: repr(content[:8]),
)
@pytest.mark.parametrize("flag", ["--accelerators", "--profile", "--trace"])
def test_a_file_that_holds_something_else_is_refused_naming_flag_and_file(
    flag: str, content: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    said = refusal("plan", "nowhere", "--accelerator=L4", f"{flag}={file}")
    assert (f"{flag}={file}" in said) or (content == b"" and "MODEL=nowhere" in said)


@pytest.mark.parametrize(
    ("command", "flag"),
    [
        ("worker", "--kv-buffer-gib=nan"),
        ("serve", "--kv_buffer_gib=nan"),
        ("router", "--port=٣"),
        ("operator", "--drain-s=1e400"),
    ],
)
def test_a_user_sees_one_line_and_exit_code_two(command: str, flag: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "seesaw_cli.main", command, "model", flag],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert flag.partition("=")[2] in ended.stderr
    assert ended.stdout == ""
