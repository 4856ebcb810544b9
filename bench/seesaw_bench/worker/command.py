"""``seesaw bench worker``: measures re-sharding against physical limits and plain vLLM.

Progress and tables go to stderr. Stdout is the JSON that is also written to the output folder.
"""

import json
import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from seesaw_core.errors import BrokenError
from seesaw_flags.files import InputFolder, OutputFolder, make_folder
from seesaw_flags.parser import CommandParser
from seesaw_flags.values import Whole

if TYPE_CHECKING:
    from seesaw_bench.worker.tables import Table

_QUICK_ROUNDS = 1
_ROUNDS = 7


def run(arguments: list[str]) -> int:
    """Run the benchmark. Returns 0 if it could measure, even if a target is missed."""
    options = parser().parse_args(arguments)
    from seesaw_cli.worker import set_defaults

    set_defaults()
    from seesaw_bench.worker import report
    from seesaw_bench.worker.picture import draw
    from seesaw_bench.worker.run import measure
    from seesaw_bench.worker.tables import tables
    from seesaw_bench.worker.workload import Workload
    from seesaw_worker.settings.model_path import check_model_path

    rounds = options.rounds or (_QUICK_ROUNDS if options.quick else _ROUNDS)
    workload = Workload.quick(rounds) if options.quick else Workload(rounds=rounds)
    if options.model is not None:
        check_model_path(str(options.model))
    make_folder(options.output, "--output")
    began = time.monotonic()

    def say(text: str) -> None:
        elapsed = time.monotonic() - began
        print(f"seesaw bench [{elapsed:6.1f} s] {text}", file=sys.stderr, flush=True)

    folder = Path(tempfile.mkdtemp(prefix="seesaw-bench-"))
    try:
        model = options.model or _make_model(folder, quick=options.quick)
        measured = measure(model, workload, logs=options.output, say=say)
    except BrokenError as error:
        print(f"seesaw bench: could not measure: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    command = shlex.join(["seesaw", "bench", "worker", *arguments])
    result = json.dumps(report.as_json(measured) | {"command": command})
    (options.output / "bench.json").write_text(result + "\n")
    (options.output / "bench.md").write_text(report.as_markdown(measured, command))
    draw(measured, options.output / "bench.png")
    _show(tables(measured))
    say(f"tables, picture and figures: {options.output}/bench.md, bench.png, bench.json")
    print(result)
    return 0


def parser() -> CommandParser:
    """Return the parser of ``seesaw bench worker``."""
    parser = CommandParser(prog="seesaw bench worker", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="use a tiny model and one round, to see that it works"
    )
    parser.add_argument(
        "--rounds",
        type=Whole(most=1000),
        help=f"number of rounds (default: {_ROUNDS}, with --quick {_QUICK_ROUNDS})",
    )
    parser.add_argument(
        "--model",
        type=InputFolder(),
        help="folder of a checkpoint (default: a random Llama of 1.1 GiB)",
    )
    parser.add_argument(
        "--output",
        type=OutputFolder(),
        default=Path("bench-output"),
        help="folder for results and logs (default: bench-output)",
    )
    return parser


def _make_model(folder: Path, *, quick: bool) -> Path:
    from seesaw_worker.synthetic import BENCH, TINY, write_checkpoint

    model = folder / "bench-llama"
    write_checkpoint(model, TINY if quick else BENCH)
    return model


def _show(tables: "list[Table]") -> None:
    from rich.console import Console
    from rich.table import Table as RichTable

    console = Console(stderr=True)
    for table in tables:
        shown = RichTable(title=table.title, title_justify="left")
        for index, column in enumerate(table.header):
            shown.add_column(column, justify="left" if index == 0 else "right")
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)
        for note in table.notes:
            console.print(f"  {note}", style="dim", markup=False, highlight=False)
        console.print()
