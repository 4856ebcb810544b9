"""``seesaw demo``: shows re-sharding in a few minutes, without GPU, cluster or model download.

Creates a small random Llama, serves it on two CPU ranks that prefill pipeline-parallel and decode
tensor-parallel, sends requests to it, and compares every token with plain vLLM's. Progress goes to
stderr. Stdout ends with one line of JSON: whether all tokens were equal (``ok``), the counts of
requests, tokens and transitions, seconds by phase, and the path of the picture.
"""

import asyncio
import dataclasses
import json
import random
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seesaw_cli.demo.picture import Recording, blocks_of, draw, resharding
from seesaw_core.event_stream import EventParser
from seesaw_core.layouts import Layout
from seesaw_core.messages import TransitionEvent, WorkerState
from seesaw_core.reading import read_event, read_state
from seesaw_flags.files import OutputFolder, make_folder
from seesaw_flags.parser import CommandParser
from seesaw_flags.values import SEED, Whole

_PREFILL = Layout(pipeline=2)
_DECODE = Layout(tensor=2)
_MAX_LEN = 2048
_BLOCK = 32
_SAMPLE_EVERY_S = 0.05
_LENGTHS = (1, 2, _BLOCK - 1, _BLOCK, _BLOCK + 1, 2 * _BLOCK, 16 * _BLOCK, 16 * _BLOCK + 1)
_ENGINE_FLAGS = {
    "dtype": "float32",
    "max_model_len": _MAX_LEN,
    "block_size": _BLOCK,
    "generation_config": "vllm",
    "kv_cache_memory_bytes": 192 << 20,
    "max_num_seqs": 16,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request of the demo. Units: ``at_s`` seconds after the first."""

    prompt: list[int]
    params: dict[str, Any]
    at_s: float


def run(arguments: list[str]) -> int:
    """Run the demo. Returns 0 if every token equals plain vLLM's, else 1."""
    options = parser().parse_args(arguments)
    began = time.monotonic()
    make_folder(options.output, "--output")
    folder = Path(tempfile.mkdtemp(prefix="seesaw-demo-"))
    try:
        model = _make_model(options.output)
        requests = make_requests(options.requests, seed=options.seed)
        recording, start_s = _serve(model, requests, options.output / "worker.log")
        reference = _plain(model, requests, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    differing = [i for i, tokens in enumerate(recording.tokens) if tokens != reference[i]]
    picture = options.output / "phases.png"
    draw(recording, picture)
    summary = _summary(recording, requests, differing, start_s) | {
        "picture": str(picture),
        "seconds": round(time.monotonic() - began, 1),
    }
    _show(summary, requests, differing)
    print(json.dumps(summary))
    return 1 if differing else 0


def parser() -> CommandParser:
    """Return the parser of the command's flags."""
    parser = CommandParser(prog="seesaw demo", description=__doc__)
    parser.add_argument(
        "--requests", type=Whole(most=100_000), default=64, help="number of requests (default: 64)"
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


def make_requests(count: int, *, seed: int) -> list[Request]:
    """Draw prompts of 1 to 1,500 tokens. Half of them arrive at once, and half are greedy."""
    rng = random.Random(seed)
    requests = []
    at_s = 0.0
    for index in range(count):
        length = (
            _LENGTHS[index]
            if index < len(_LENGTHS)
            else min(1500, 1 + int(rng.lognormvariate(5.2, 1.1)))
        )
        if index >= count // 2:
            at_s += rng.expovariate(8.0)
        sampled = {"temperature": 0.8, "top_p": 0.95, "seed": index} if index % 2 else {}
        requests.append(
            Request(
                prompt=[rng.randrange(10, 800) for _ in range(length)],
                params={
                    "temperature": 0.0,
                    "max_tokens": rng.choice((8, 16, 48, 96)),
                    "ignore_eos": True,
                }
                | sampled,
                at_s=at_s,
            )
        )
    return requests


def _make_model(folder: Path) -> Path:
    from seesaw_worker.synthetic import DEMO, weights_bytes, write_checkpoint

    model = folder / "demo-llama"
    shutil.rmtree(model, ignore_errors=True)
    _say(f"creating a random Llama of {weights_bytes(DEMO) >> 20} MiB in {model}")
    write_checkpoint(model, DEMO)
    return model


def _serve(model: Path, requests: list[Request], log: Path) -> tuple[Recording, float]:
    from seesaw_cli.serve.local import LocalWorker

    log.unlink(missing_ok=True)
    _say(f"starting one worker on two CPU ranks: prefill {_PREFILL}, decode {_DECODE}")
    _say(f"  (its log: {log})")
    flags = [
        "--decode-tensor-parallel-size=2",
        "--prefill-pipeline-parallel-size=2",
        "--reshard=always",
        "--kv-buffer-gib=0.06",
        "--flush-timeout-s=3",
        "--enforce-eager",
        *(f"--{name.replace('_', '-')}={value}" for name, value in _ENGINE_FLAGS.items()),
    ]
    with LocalWorker(model, flags, log=log, tell=lambda text: _say(f"  {text}")) as worker:
        _say(f"serving after {worker.start_s:.0f} s; sending {len(requests)} requests")
        recording = asyncio.run(_drive(worker.url, worker.model, requests))
        return recording, worker.start_s


async def _drive(url: str, model: str, requests: list[Request]) -> Recording:
    """Send all requests, and record the worker's states and events meanwhile."""
    import aiohttp

    recording = Recording(tokens=[[] for _ in requests])
    began = time.monotonic()
    done = 0

    async def ask(http: aiohttp.ClientSession, index: int, request: Request) -> None:
        nonlocal done
        await asyncio.sleep(request.at_s)
        body = {"model": model, "prompt": request.prompt, "return_token_ids": True}
        async with http.post(f"{url}/v1/completions", json=body | request.params) as response:
            answer = await response.json()
            if response.status != 200:
                raise RuntimeError(f"request {index} failed: {answer}")
        recording.tokens[index] = answer["choices"][0]["token_ids"]
        done += 1

    async def state_of(http: aiohttp.ClientSession) -> WorkerState:
        async with http.get(f"{url}/seesaw/state") as response:
            return read_state(await response.read())

    async def watch(http: aiohttp.ClientSession) -> None:
        shown = time.monotonic()
        while True:
            state = await state_of(http)
            recording.samples.append((time.monotonic() - began, state))
            if time.monotonic() - shown > 1.0:
                shown = time.monotonic()
                _say(f"{done}/{len(requests)} done | {_progress(state, recording)}")
            await asyncio.sleep(_SAMPLE_EVERY_S)

    async def follow(http: aiohttp.ClientSession) -> None:
        parser = EventParser()
        async with http.get(f"{url}/seesaw/events", timeout=None) as response:
            async for chunk in response.content.iter_any():
                for event in parser.feed(chunk, time.monotonic()):
                    message = read_event(*event)
                    if isinstance(message, TransitionEvent):
                        recording.transitions.append((time.monotonic() - began, message))

    timeout = aiohttp.ClientTimeout(total=600)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        watching = [asyncio.create_task(watch(http)), asyncio.create_task(follow(http))]
        await asyncio.gather(*(ask(http, i, r) for i, r in enumerate(requests)))
        recording.seconds = time.monotonic() - began
        for task in watching:
            task.cancel()
        recording.final = await state_of(http)
    return recording


def _plain(model: Path, requests: list[Request], folder: Path) -> list[list[int]]:
    """Run the same requests on plain vLLM in the decode layout. Returns their tokens."""
    from seesaw_worker.modes.static.reference import Sample, plain_tokens

    _say(f"running the same requests on plain vLLM, layout {_DECODE} (about a minute)")
    samples = [Sample(prompt=r.prompt, params=r.params) for r in requests]
    return plain_tokens(model, _DECODE, samples, _ENGINE_FLAGS, folder)


def _summary(
    recording: Recording, requests: list[Request], differing: list[int], start_s: float
) -> dict[str, Any]:
    final = resharding(recording.final)
    output_tokens = sum(map(len, recording.tokens))
    moved = [event.total_s for _, event in recording.transitions]
    return {
        "ok": not differing,
        "prefill_layout": final.prefill_layout,
        "decode_layout": final.decode_layout,
        "requests": len(requests),
        "prompt_tokens": sum(len(r.prompt) for r in requests),
        "output_tokens": output_tokens,
        "differing_requests": len(differing),
        "transitions": len(moved),
        "transition_ms_median": round(1e3 * sorted(moved)[len(moved) // 2], 1) if moved else None,
        "seconds_by_phase": {k: round(v, 2) for k, v in final.seconds_by_phase.items()},
        "paths": dataclasses.asdict(final.paths),
        "serving_seconds": round(recording.seconds, 2),
        "output_tokens_per_s": round(output_tokens / recording.seconds, 1),
        "start_seconds": round(start_s, 1),
    }


def _show(summary: dict[str, Any], requests: list[Request], differing: list[int]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Seesaw demo", show_header=False)
    rows = {
        "layouts": f"prefill {summary['prefill_layout']} -> decode {summary['decode_layout']}",
        "requests": f"{summary['requests']}, {summary['prompt_tokens']} prompt tokens in, "
        f"{summary['output_tokens']} tokens out",
        "paths": f"{summary['paths']['reshard_requests']} through the KV buffer, "
        f"{summary['paths']['in_place_requests']} in place",
        "transitions": f"{summary['transitions']}, median {summary['transition_ms_median']} ms",
        "seconds by phase": ", ".join(f"{k} {v}" for k, v in summary["seconds_by_phase"].items()),
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
        _say(f"differs: request {index}, {len(request.prompt)} prompt tokens, {request.params}")


def _progress(state: WorkerState, recording: Recording) -> str:
    part = resharding(state)
    blocks = blocks_of(part)
    full = 100 * (1 - blocks.free / blocks.capacity)
    return (
        f"{part.phase:7} | {len(recording.transitions)} transitions | "
        f"buffer {full:3.0f} % | {state.num_waiting} waiting, "
        f"{part.num_decoding} decoding | {part.reason}"
    )


def _say(text: str) -> None:
    print(f"seesaw demo: {text}", file=sys.stderr, flush=True)
