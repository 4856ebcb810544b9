"""``seesaw bench router``: a router's cost, beside nginx and another Python proxy, in one run.

People read standard error; standard output is the JSON that also goes to the output folder.
"""

import argparse
import asyncio
import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from seesaw_core.errors import InputError
from seesaw_flags.files import InputFolder, OutputFolder, make_folder
from seesaw_flags.parser import CommandParser
from seesaw_flags.values import Whole

if TYPE_CHECKING:
    from seesaw_bench.router.run import Measured

_RIVAL = "litellm[proxy]==1.80.0"
_OTHER = "other checkout"
_AIMS = {"request_ms": 0.3, "chunk_us": 15.0}
_FIGURES = {
    "request_ms": "CPU a request, ms",
    "chunk_us": "CPU a streamed chunk, µs",
    "added_p50_ms": "added latency p50, ms",
    "added_p99_ms": "added latency p99, ms",
    "requests_per_s": "requests/s through one process",
    "open_mib": "memory at {open} open streams, MiB",
    "stream_kib": "— of which an open stream, KiB",
}


def run(arguments: list[str]) -> int:
    """Run the benchmark. Returns 0 if it could measure."""
    options = _parse(arguments)
    from seesaw_bench.router import subjects
    from seesaw_bench.router.run import Workload, measure

    make_folder(options.output, "--output")
    work = Workload.quick() if options.quick else Workload(rounds=options.rounds)
    began = time.monotonic()

    def say(text: str) -> None:
        passed = time.monotonic() - began
        print(f"seesaw bench [{passed:6.1f} s] {text}", file=sys.stderr, flush=True)

    folder = Path(tempfile.mkdtemp(prefix="seesaw-bench-"))
    try:
        with contextlib.ExitStack() as stack:
            engine = stack.enter_context(subjects.upstream(folder))
            here = [stack.enter_context(subjects.seesaw(engine, folder))]
            if options.against is not None:
                here.append(stack.enter_context(subjects.seesaw(engine, folder, options.against)))
            elif subjects.find_nginx():
                here.append(stack.enter_context(subjects.nginx(engine, folder)))
            else:
                say("no nginx here (apt-get install nginx-light): left out")
            if not options.quick and options.against is None:
                say(f"starting {_RIVAL} in an environment of its own")
                program = _install(options.rival_folder)
                here.append(stack.enter_context(subjects.litellm(program, engine, folder)))
            direct = f"http://127.0.0.1:{engine}"
            measured = asyncio.run(measure(here, direct, work, say))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    command = shlex.join(["seesaw", "bench", "router", *arguments])
    result = json.dumps({"command": command, "figures": measured.figures})
    (options.output / "bench-router.json").write_text(result + "\n")
    text = _markdown(measured, command)
    (options.output / "bench-router.md").write_text(text)
    print(text, file=sys.stderr)
    print(result)
    return 0


def parser() -> CommandParser:
    """The command's flags."""
    made = CommandParser(prog="seesaw bench router", description=__doc__)
    made.add_argument("--quick", action="store_true", help="one small round, without the rival")
    made.add_argument("--rounds", type=Whole(most=1000), default=3, help="default: 3")
    made.add_argument(
        "--output", type=OutputFolder(), default=Path("bench-output"), help="default: bench-output"
    )
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    made.add_argument(
        "--rival-folder",
        type=OutputFolder(),
        default=cache / "seesaw-bench-rival",
        help="where the rival's environment is made and kept (default: %(default)s)",
    )
    made.add_argument(
        "--against",
        type=InputFolder(),
        metavar="CHECKOUT",
        help="a checkout of another commit, such as a git worktree, whose router is measured in "
        "turn with this one, instead of the other proxies",
    )
    return made


def _parse(arguments: list[str]) -> argparse.Namespace:
    options = parser().parse_args(arguments)
    if options.against is not None and not (options.against / "router/seesaw_router").is_dir():
        raise InputError(f"--against={options.against}: holds no router/seesaw_router")
    return options


def _install(folder: Path) -> Path:
    """The rival's program, in a virtual environment that is kept."""
    program = folder / "bin/litellm"
    if not program.exists():
        uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
        subprocess.run([uv, "venv", "--quiet", "--clear", str(folder)], check=True)
        python = folder / "bin/python"
        install = [uv, "pip", "install", "--quiet", f"--python={python}", _RIVAL]
        subprocess.run(install, check=True)
    return program


def _markdown(measured: "Measured", command: str) -> str:
    names = list(measured.figures)
    lines = [
        f"`{command}`",
        "",
        "| | " + " | ".join(names) + " | aim |",
        "| --- |" + " --- |" * (len(names) + 1),
    ]
    for figure, title in _FIGURES.items():
        cells = [_spread(measured.figures[name][figure]) for name in names]
        aim = f"≤ {_AIMS[figure]:g}" if figure in _AIMS else ""
        shown = title.format(open=f"{measured.workload.open_streams:,}")
        lines.append(f"| {shown} | " + " | ".join(cells) + f" | {aim} |")
    if _OTHER in names:
        lines += ["", *_ratios(measured, names[0])]
    return "\n".join(lines) + "\n"


def _ratios(measured: "Measured", ours: str) -> list[str]:
    """Ours over the other checkout's, round by round, so that drift of the machine cancels."""
    lines = [f"{ours} over {_OTHER}, by round: median (lowest–highest)", ""]
    for figure in ("request_ms", "chunk_us"):
        pairs = zip(measured.figures[ours][figure], measured.figures[_OTHER][figure], strict=True)
        ratios = [one / other for one, other in pairs if other]
        shown = _spread(ratios) if ratios else "too little to measure"
        lines.append(f"- {_FIGURES[figure]}: {shown}")
    return lines


def _spread(values: list[float]) -> str:
    """Median, lowest and highest."""
    ordered = sorted(values)
    middle = ordered[len(ordered) // 2]
    digits = 0 if middle >= 100 else 2
    shown = f"{middle:,.{digits}f}"
    if len(ordered) > 1:
        shown += f" ({ordered[0]:,.{digits}f}–{ordered[-1]:,.{digits}f})"
    return shown
