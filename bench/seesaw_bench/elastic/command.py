"""``seesaw bench elastic``: measures elastic instances beside plain vLLM, on CPU ranks.

Progress and tables go to stderr. Stdout is the JSON that is also written to the output folder.
"""

import json
import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path

from seesaw_core.errors import BrokenError
from seesaw_flags.files import OutputFolder, make_folder
from seesaw_flags.parser import CommandParser
from seesaw_flags.values import Whole

_QUICK_ROUNDS, _ROUNDS = 1, 5
_STUDIES = ("ttft", "beside", "steps", "overhead", "divide")


def run(arguments: list[str]) -> int:
    """Run the benchmark. Returns 0 if it could measure, even if a target is missed."""
    options = parser().parse_args(arguments)
    from seesaw_cli.worker import set_defaults

    set_defaults()
    from seesaw_bench.elastic import report
    from seesaw_bench.elastic.picture import draw
    from seesaw_bench.elastic.run import measure
    from seesaw_bench.elastic.workload import Study, Workload
    from seesaw_worker.synthetic import write_checkpoint

    studies = tuple(Study(name) for name in options.only or _STUDIES)
    rounds = options.rounds or (_QUICK_ROUNDS if options.quick else _ROUNDS)
    make = Workload.quick if options.quick else Workload
    workload = make(rounds=rounds, studies=studies)
    make_folder(options.output, "--output")
    began = time.monotonic()

    def say(text: str) -> None:
        elapsed = time.monotonic() - began
        print(f"seesaw bench [{elapsed:6.1f} s] {text}", file=sys.stderr, flush=True)

    folder = Path(tempfile.mkdtemp(prefix="seesaw-bench-"))
    try:
        write_checkpoint(folder / "bench-llama", workload.spec)
        measured = measure(folder / "bench-llama", workload, logs=options.output, say=say)
    except BrokenError as error:
        print(f"seesaw bench: could not measure: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("seesaw bench: interrupted; nothing is written", file=sys.stderr)
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    command = shlex.join(["seesaw", "bench", "elastic", *arguments])
    result = json.dumps(report.as_json(measured) | {"command": command})
    (options.output / "bench.json").write_text(result + "\n")
    markdown = report.as_markdown(measured, command)
    (options.output / "bench.md").write_text(markdown)
    draw(measured, options.output / "bench.png")
    print(markdown, file=sys.stderr)
    say(f"tables, picture and figures: {options.output}/bench.md, bench.png, bench.json")
    print(result)
    return 0


def parser() -> CommandParser:
    """Return the parser of ``seesaw bench elastic``."""
    parser = CommandParser(prog="seesaw bench elastic", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="use a tiny model and one round, to see that it works"
    )
    parser.add_argument(
        "--rounds",
        type=Whole(most=1000),
        help=f"number of rounds (default: {_ROUNDS}, with --quick {_QUICK_ROUNDS})",
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=_STUDIES,
        help="measure this part alone: time to the first token by degree, short requests beside a "
        "long prompt, scaling steps, overhead at degree 1, or the division of prompts; may be "
        "given several times (default: all)",
    )
    parser.add_argument(
        "--output",
        type=OutputFolder(),
        default=Path("bench-output"),
        help="folder for results and logs (default: bench-output)",
    )
    return parser
