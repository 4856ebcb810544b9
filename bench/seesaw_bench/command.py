"""``seesaw bench``: one sub-command for each benchmark."""

from importlib import import_module

from seesaw_core.errors import InputError

BENCHMARKS = {
    "worker": "seesaw_bench.worker.command",
    "elastic": "seesaw_bench.elastic.command",
    "router": "seesaw_bench.router.command",
    "simulator": "seesaw_bench.simulator",
    "planner": "seesaw_bench.planner.command",
    "models": "seesaw_bench.models.command",
    "public-figures": "seesaw_bench.public.command",
}


def run(arguments: list[str]) -> int:
    """Run a benchmark. Returns 0 if it could measure; missed targets are shown, no failure."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: seesaw bench {'|'.join(BENCHMARKS)} [--help] [options]")
        return 0 if arguments else 2
    name, rest = arguments[0], arguments[1:]
    if name not in BENCHMARKS:
        raise InputError(f"no such benchmark: {name!r}; there are {', '.join(BENCHMARKS)}")
    return int(import_module(BENCHMARKS[name]).run(rest))
