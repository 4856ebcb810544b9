"""The demo of re-sharding: prefill pipeline-parallel, decode tensor-parallel, on the same ranks."""

import dataclasses
import random
from typing import Any, Final

from seesaw_cli.demo.driving import Demo, Recording, Request, as_flags
from seesaw_cli.demo.picture import blocks_of, draw, resharding
from seesaw_core.layouts import Layout
from seesaw_core.messages import WorkerState

_PREFILL = Layout(pipeline=2)
_DECODE = Layout(tensor=2)
_BLOCK = 32
_LENGTHS = (1, 2, _BLOCK - 1, _BLOCK, _BLOCK + 1, 2 * _BLOCK, 16 * _BLOCK, 16 * _BLOCK + 1)
_ENGINE = {
    "dtype": "float32",
    "max_model_len": 2048,
    "block_size": _BLOCK,
    "generation_config": "vllm",
    "kv_cache_memory_bytes": 192 << 20,
    "max_num_seqs": 16,
}


def make_requests(count: int, seed: int) -> list[Request]:
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


def _summary(recording: Recording) -> dict[str, Any]:
    final = resharding(recording.final)
    moved = [event.total_s for _, event in recording.transitions]
    return {
        "prefill_layout": final.prefill_layout,
        "decode_layout": final.decode_layout,
        "transitions": len(moved),
        "transition_ms_median": round(1e3 * sorted(moved)[len(moved) // 2], 1) if moved else None,
        "seconds_by_phase": {k: round(v, 2) for k, v in final.seconds_by_phase.items()},
        "paths": dataclasses.asdict(final.paths),
    }


def _rows(summary: dict[str, Any]) -> dict[str, str]:
    return {
        "layouts": f"prefill {summary['prefill_layout']} -> decode {summary['decode_layout']}",
        "paths": f"{summary['paths']['reshard_requests']} through the KV buffer, "
        f"{summary['paths']['in_place_requests']} in place",
        "transitions": f"{summary['transitions']}, median {summary['transition_ms_median']} ms",
        "seconds by phase": ", ".join(f"{k} {v}" for k, v in summary["seconds_by_phase"].items()),
    }


def _progress(state: WorkerState, recording: Recording) -> str:
    part = resharding(state)
    blocks = blocks_of(part)
    full = 100 * (1 - blocks.free / blocks.capacity)
    return (
        f"{part.phase:7} | {len(recording.transitions)} transitions | "
        f"buffer {full:3.0f} % | {state.num_waiting} waiting, "
        f"{part.num_decoding} decoding | {part.reason}"
    )


RESHARDING: Final = Demo(
    about=f"one worker on two CPU ranks: prefill {_PREFILL}, decode {_DECODE}",
    picture="phases.png",
    num_requests=64,
    flags=(
        "--decode-tensor-parallel-size=2",
        "--prefill-pipeline-parallel-size=2",
        "--reshard=always",
        "--kv-buffer-gib=0.06",
        "--flush-timeout-s=3",
        "--enforce-eager",
        *as_flags(_ENGINE),
    ),
    reference=_DECODE,
    reference_engine=_ENGINE,
    make_requests=make_requests,
    progress=_progress,
    summary=_summary,
    rows=_rows,
    draw=draw,
)
