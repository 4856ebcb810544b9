"""``seesaw bench public-figures``: our predictions beside what others measured on real GPUs.

--package is the folder of aiconfigurator_core 0.12 (PyPI), whose silicon_sample.csv has public runs
of vLLM with their time to the first token and time per output token. --throughput is a CSV file of
published maximum throughputs (columns gpu,model,precision,tp,pp,isl,osl,value,unit,source). Each
run is simulated as its source made it; errors are shown by model, accelerator, layout and
concurrency, in half a minute. The report goes to standard output as Markdown, and with a picture
and JSON to --output. Exit codes: 0 all targets are met, 1 a target is missed.

  pip download --no-deps aiconfigurator-core==0.12.0 && unzip -q aiconfigurator_core-*.whl
  seesaw bench public-figures --package aiconfigurator_core
"""

import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from seesaw_bench.public.predictions import Prediction, is_mixture, predict
from seesaw_bench.public.report import as_json, targets
from seesaw_bench.public.rows import SAMPLE, Row, read_sample, read_throughput
from seesaw_bench.public.tables import report
from seesaw_cli.commandline import worker_processes
from seesaw_flags.files import InputFile, InputFolder, OutputFolder, make_folder
from seesaw_flags.parser import CommandParser


def run(arguments: list[str]) -> int:
    """Predict all runs, print the report and draw. Returns 0 if the targets are met, else 1."""
    options = parser().parse_args(arguments)
    make_folder(options.output, "--output")
    rows = read_sample(options.package / SAMPLE)
    if options.throughput is not None:
        rows += read_throughput(options.throughput)
    if not options.mixtures:
        rows = [row for row in rows if row.concurrency is None or not is_mixture(row)]
    predictions = _predict_all(rows, options.package / "model_configs")
    text = report(predictions)
    print(text)
    _write(predictions, text, options.output)
    return 0 if all(target.met for target in targets(predictions)) else 1


def parser() -> CommandParser:
    """The command's flags."""
    command = CommandParser(prog="seesaw bench public-figures", description=__doc__)
    command.add_argument(
        "--package",
        metavar="FOLDER",
        type=InputFolder(),
        required=True,
        help="aiconfigurator_core of the unpacked wheel",
    )
    command.add_argument(
        "--throughput", metavar="FILE", type=InputFile(), help="CSV of published throughputs"
    )
    command.add_argument(
        "--mixtures",
        action="store_true",
        help="also show the latency of mixtures of experts, which has no target (minutes)",
    )
    command.add_argument(
        "--output",
        metavar="FOLDER",
        type=OutputFolder(),
        default=Path("public-figures"),
        help="where the report, the picture and the JSON go (default: %(default)s)",
    )
    return command


def _predict_all(rows: Sequence[Row], configs: Path) -> list[Prediction]:
    found = []
    with worker_processes() as pool:
        for number, each in enumerate(pool.imap(partial(predict, configs=configs), rows, 8), 1):
            found.append(each)
            if number % 100 == 0:
                print(f"seesaw bench: {number} of {len(rows)}", file=sys.stderr, flush=True)
    return found


def _write(predictions: Sequence[Prediction], text: str, output: Path) -> None:
    from seesaw_bench.public.picture import draw

    (output / "public-figures.md").write_text(text + "\n")
    (output / "public-figures.json").write_text(json.dumps(as_json(predictions), indent=1) + "\n")
    draw(predictions, output / "public-figures.png")
    print(f"seesaw bench: written to {output}/public-figures.md, .json, .png", file=sys.stderr)
