"""``seesaw demo``: shows a worker at work in a few minutes, without GPU, cluster or model download.

Creates a small random Llama, serves it on two CPU ranks, sends requests to it, and compares every
token with plain vLLM's. The worker re-shards: it prefills pipeline-parallel and decodes
tensor-parallel on the same ranks. With --elastic it has two elastic instances instead, which
prefill long prompts together and decode short ones apart. Progress goes to stderr. Stdout ends
with one line of JSON: whether all tokens were equal (``ok``), the counts of requests and tokens,
what the worker did, and the path of the picture.
"""

import asyncio
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from seesaw_cli.demo.driving import Demo, Recording, Request, drive, say
from seesaw_cli.demo.elastic import ELASTIC
from seesaw_cli.demo.resharding import RESHARDING
from seesaw_flags.files import OutputFolder, make_folder
from seesaw_flags.parser import CommandParser
from seesaw_flags.values import SEED, Whole


def run(arguments: list[str]) -> int:
    """Run the demo. Returns 0 if every token equals plain vLLM's, else 1."""
    options = parser().parse_args(arguments)
    demo = ELASTIC if options.elastic else RESHARDING
    began = time.monotonic()
    make_folder(options.output, "--output")
    folder = Path(tempfile.mkdtemp(prefix="seesaw-demo-"))
    try:
        model = _make_model(options.output)
        requests = demo.make_requests(options.requests or demo.num_requests, options.seed)
        recording, start_s = _serve(demo, model, requests, options.output / "worker.log")
        reference = _plain(demo, model, requests, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    differing = [i for i, tokens in enumerate(recording.tokens) if tokens != reference[i]]
    picture = options.output / demo.picture
    demo.draw(recording, picture)
    output_tokens = sum(map(len, recording.tokens))
    summary = {
        "ok": not differing,
        **demo.summary(recording),
        "requests": len(requests),
        "prompt_tokens": sum(len(r.prompt) for r in requests),
        "output_tokens": output_tokens,
        "differing_requests": len(differing),
        "serving_seconds": round(recording.seconds, 2),
        "output_tokens_per_s": round(output_tokens / recording.seconds, 1),
        "start_seconds": round(start_s, 1),
        "picture": str(picture),
        "seconds": round(time.monotonic() - began, 1),
    }
    _show(demo, summary, requests, differing)
    print(json.dumps(summary))
    return 1 if differing else 0


def parser() -> CommandParser:
    """Return the parser of the command's flags."""
    parser = CommandParser(prog="seesaw demo", description=__doc__)
    parser.add_argument(
        "--elastic",
        action="store_true",
        help="serve with two elastic instances, and draw requests as bars over them (default: "
        "re-shard)",
    )
    parser.add_argument(
        "--requests",
        type=Whole(most=100_000),
        default=None,
        help=f"number of requests (default: {RESHARDING.num_requests}, or "
        f"{ELASTIC.num_requests} with --elastic)",
    )
    parser.add_argument(
        "--seed", type=SEED, default=0, help="seed of prompts and arrivals (default: 0)"
    )
    parser.add_argument(
        "--output",
        type=OutputFolder(),
        default=Path("demo-output"),
        help="folder for model, picture and log (default: demo-output)",
    )
    return parser


def _make_model(folder: Path) -> Path:
    from seesaw_worker.synthetic import DEMO, weights_bytes, write_checkpoint

    model = folder / "demo-llama"
    shutil.rmtree(model, ignore_errors=True)
    say(f"creating a random Llama of {weights_bytes(DEMO) >> 20} MiB in {model}")
    write_checkpoint(model, DEMO)
    return model


def _serve(demo: Demo, model: Path, requests: list[Request], log: Path) -> tuple[Recording, float]:
    from seesaw_cli.serve.local import LocalWorker

    log.unlink(missing_ok=True)
    say(f"starting {demo.about}")
    say(f"  (its log: {log})")
    with LocalWorker(model, demo.flags, log=log, tell=lambda text: say(f"  {text}")) as worker:
        say(f"serving after {worker.start_s:.0f} s; sending {len(requests)} requests")
        recording = asyncio.run(drive(worker.url, worker.model, requests, demo.progress))
        return recording, worker.start_s


def _plain(demo: Demo, model: Path, requests: list[Request], folder: Path) -> list[list[int]]:
    """Run the same requests on plain vLLM. Returns their tokens."""
    from seesaw_worker.modes.static.reference import Sample, plain_tokens

    say(f"running the same requests on plain vLLM, layout {demo.reference} (about a minute)")
    samples = [Sample(prompt=r.prompt, params=r.params) for r in requests]
    return plain_tokens(model, demo.reference, samples, demo.reference_engine, folder)


def _show(
    demo: Demo, summary: dict[str, Any], requests: list[Request], differing: list[int]
) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Seesaw demo", show_header=False)
    rows = {
        "requests": f"{summary['requests']}, {summary['prompt_tokens']} prompt tokens in, "
        f"{summary['output_tokens']} tokens out",
        **demo.rows(summary),
        "against plain vLLM": "every token equal"
        if not differing
        else f"{len(differing)} requests differ",
        "picture": summary["picture"],
    }
    for name, value in rows.items():
        table.add_row(name, value)
    Console(stderr=True).print(table)
    for index in differing[:5]:
        request = requests[index]
        say(f"differs: request {index}, {len(request.prompt)} prompt tokens, {request.params}")
