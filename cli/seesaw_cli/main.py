"""``seesaw``: the command line, one sub-command per part."""

import importlib
import os
import select
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

from seesaw_core.errors import BrokenError, InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A sub-command: where it lives, and its line in ``seesaw --help``."""

    module: str
    summary: str


COMMANDS = {
    "worker": Command(
        module="seesaw_cli.worker",
        summary="serve a model that prefills under one layout and decodes under another",
    ),
    "serve": Command(module="seesaw_cli.serve", summary="a router and one worker on this machine"),
    "router": Command(
        module="seesaw_cli.router",
        summary="one OpenAI-compatible endpoint in front of workers, with prefill waves",
    ),
    "operator": Command(
        module="seesaw_cli.operator", summary="make a cluster match its SeesawDeployments"
    ),
    "plan": Command(
        module="seesaw_cli.plan",
        summary="choose the layouts for a model, devices and a workload, and predict the gain",
    ),
    "simulate": Command(
        module="seesaw_cli.simulate",
        summary="serve a workload on a virtual clock: throughput, latency and pictures, no GPU",
    ),
    "calibrate": Command(
        module="seesaw_cli.calibrate",
        summary="measure this machine with the real worker, and write a profile of it",
    ),
    "paper": Command(
        module="seesaw_cli.paper",
        summary="the Seesaw paper's evaluation on the simulator, beside the paper's answers",
    ),
    "demo": Command(
        module="seesaw_cli.demo",
        summary="show a worker re-shard itself under load, checked against plain vLLM (no GPU)",
    ),
    "bench": Command(
        module="seesaw_cli.bench",
        summary="measure a worker against physical limits and vLLM, or a router beside others",
    ),
}


def main() -> int:
    """Run a sub-command.

    Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted, 141 nobody reads any more.
    """
    try:
        try:
            code = _run(sys.argv[1:])
        except SystemExit:  # argparse, after --help
            _flush()
            raise
        _flush()
        return code
    except BrokenPipeError:
        if sys.stdout is None or not _is_cut_off(sys.stdout.fileno()):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still buffered
        return 128 + signal.SIGPIPE  # as of any command before `| head`


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"seesaw {version('seesaw')}")
        return 0
    name, rest = arguments[0], arguments[1:]
    command = COMMANDS.get(name)
    if command is None:
        print(f"seesaw: no such command: {name!r}\n\n{usage()}", file=sys.stderr)
        return 2
    run: Callable[[list[str]], int] = importlib.import_module(command.module).run
    try:
        return run(rest)
    except InputError as error:
        print(f"seesaw {name}: {error}", file=sys.stderr)
        return 2
    except BrokenError as error:
        print(f"seesaw {name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"seesaw {name}: interrupted", file=sys.stderr)
        return 130


def _is_cut_off(pipe: int) -> bool:
    """Whether nobody reads a pipe's or socket's other end any more."""
    poller = select.poll()
    poller.register(pipe, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poller.poll(0))


def usage() -> str:
    """What ``seesaw --help`` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: seesaw COMMAND [options] | --version",
            "",
            "LLM serving on vLLM that re-shards itself between prefill and decode.",
            "",
            *lines,
            "",
            "seesaw COMMAND --help explains each.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
