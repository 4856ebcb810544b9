"""``seesaw``: the command line, with a sub-command for each task."""

import contextlib
import importlib
import os
import select
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

from seesaw_cli.commandline import AS_SERVER, asks_for_help
from seesaw_cli.output import detached_output
from seesaw_core.errors import BrokenError, InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A sub-command: its module, and its line in ``seesaw --help``.

    ``supervises``: the command runs until a signal stops it, and must work even if its log is not
    read.
    """

    module: str
    summary: str
    supervises: bool = False


COMMANDS = {
    "worker": Command(
        module="seesaw_cli.worker",
        summary="serve a model that prefills in one layout and decodes in another",
        supervises=True,
    ),
    "serve": Command(
        module="seesaw_cli.serve.command",
        summary="serve a model with a router and one worker on this machine",
        supervises=True,
    ),
    "router": Command(
        module="seesaw_cli.router",
        summary="run one OpenAI-compatible endpoint in front of workers, with prefill waves",
        supervises=True,
    ),
    "operator": Command(
        module="seesaw_cli.operator",
        summary="reconcile the SeesawDeployments of a Kubernetes cluster",
        supervises=True,
    ),
    "plan": Command(
        module="seesaw_cli.plan",
        summary="choose the layouts for a model, devices and a workload, and predict the gain",
    ),
    "simulate": Command(
        module="seesaw_cli.simulate.command",
        summary="simulate a workload on a virtual clock: throughput, latency and pictures (no GPU)",
    ),
    "calibrate": Command(
        module="seesaw_cli.calibrate.command",
        summary="measure this machine with a real worker, and write a profile for the planner",
    ),
    "paper": Command(
        module="seesaw_bench.paper.command",
        summary="run the papers' evaluations on the simulator, beside their results",
    ),
    "demo": Command(
        module="seesaw_cli.demo.command",
        summary="show a worker that re-shards, or is elastic, compared with plain vLLM (no GPU)",
    ),
    "bench": Command(
        module="seesaw_bench.command",
        summary="compare a worker with physical limits and vLLM, or a router with other routers",
    ),
}

LABORATORY = "seesaw_bench"  # in the source tree only, not in the wheel


def main() -> int:
    """Run a sub-command.

    Exit codes: 0 success, 1 failure, 2 bad input, 130 interrupted, 141 output closed.
    """
    try:
        try:
            with _output_of(sys.argv[1:]):
                code = _run(sys.argv[1:])
        except SystemExit:  # argparse, after --help
            _flush()
            raise
        _flush()
        return code
    except BrokenPipeError:
        if sys.stdout is None or not _is_cut_off(sys.stdout.fileno()):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # takes the buffered rest
        return 128 + signal.SIGPIPE  # like any command before `| head`


def _output_of(arguments: list[str]) -> contextlib.AbstractContextManager[None]:
    """Return how a command writes. A worker's server writes to its supervisor's detached output."""
    command = COMMANDS.get(arguments[0]) if arguments else None
    if command is None or not command.supervises or AS_SERVER in arguments:
        return contextlib.nullcontext()
    if asks_for_help(arguments):
        return contextlib.nullcontext()
    return detached_output()


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
        _complain(f"seesaw: no such command: {name!r}\n\n{usage()}")
        return 2
    try:
        return _load(command)(rest)
    except InputError as error:
        _complain(f"seesaw {name}: {' '.join(str(error).splitlines())}")
        return 2
    except BrokenError as error:
        _complain(f"seesaw {name}: {error}")
        return 1
    except KeyboardInterrupt:
        _complain(f"seesaw {name}: interrupted")
        return 130


def _load(command: Command) -> Callable[[list[str]], int]:
    try:
        run: Callable[[list[str]], int] = importlib.import_module(command.module).run
    except ModuleNotFoundError as error:
        if error.name != LABORATORY:
            raise
        raise InputError(
            "this installation has no benchmarks, which are part of the source tree: clone it and "
            "run `make setup` there"
        ) from error
    return run


def _complain(text: str) -> None:
    """Print an error. The exit code reports it even if stderr is closed."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # takes the buffered rest


def _is_cut_off(pipe: int) -> bool:
    """Return whether the other end of a pipe or socket is closed."""
    poller = select.poll()
    poller.register(pipe, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poller.poll(0))


def usage() -> str:
    """Return the text of ``seesaw --help``."""
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
            "seesaw COMMAND --help describes a command.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
