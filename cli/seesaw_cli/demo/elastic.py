"""The demo of elastic instances: long prompts on both of them, short requests beside."""

import random
from typing import Any, Final

from seesaw_cli.demo.driving import Demo, Recording, Request, as_flags
from seesaw_cli.demo.elastic_picture import draw, elastic
from seesaw_core.layouts import Layout
from seesaw_core.messages import WorkerState

_INSTANCES = 2
_TOKEN_BYTES = 20 << 10  # KV of a token of the demo's model
_INSTANCE_TOKENS = 2560  # KV of the longest prompts fits on no single instance
_PROMPTS = {"long": (2700, 3000), "medium": (900, 1600), "short": (10, 160)}
_OUTPUTS = {"long": (24,), "medium": (24, 48), "short": (24, 48, 96)}
_KINDS = ("long", "short", "short", "medium", "short", "short", "short", "short")
_PER_S = 1.6
_ENGINE = {
    "dtype": "float32",
    "max_model_len": 3584,
    "block_size": 32,
    "generation_config": "vllm",
    "max_num_seqs": 16,
}


def make_requests(count: int, seed: int) -> list[Request]:
    """Draw one long prompt and one of medium length among eight. Half of all are greedy."""
    rng = random.Random(seed)
    requests = []
    at_s = 0.0
    for index in range(count):
        kind = _KINDS[index % len(_KINDS)]
        length = rng.randint(*_PROMPTS[kind])
        sampled = {"temperature": 0.8, "top_p": 0.95, "seed": index} if index % 2 else {}
        requests.append(
            Request(
                prompt=[rng.randrange(10, 800) for _ in range(length)],
                params={
                    "temperature": 0.0,
                    "max_tokens": rng.choice(_OUTPUTS[kind]),
                    "ignore_eos": True,
                }
                | sampled,
                at_s=at_s,
            )
        )
        at_s += rng.expovariate(_PER_S)
    return requests


def _summary(recording: Recording) -> dict[str, Any]:
    final = elastic(recording.final)
    return {
        "instances": len(final.capacity_tokens),
        "instance_tokens": max(final.capacity_tokens),
        "prefills_by_degree": final.prefills_by_degree,
        "decodes_by_degree": final.decodes_by_degree,
        "migrated_tokens": final.migrated_tokens,
        "preemptions": final.preemptions,
        "longest_prompt_instances": _holders_of_longest(recording),
    }


def _holders_of_longest(recording: Recording) -> int:
    """Return on how many instances the KV of the longest prompt lay."""
    spans = [s for event in recording.timelines for s in event.requests if s.kind == "decode"]
    longest = max(spans, key=lambda s: s.num_tokens, default=None)
    return 0 if longest is None else len(longest.instances)


def _rows(summary: dict[str, Any]) -> dict[str, str]:
    return {
        "instances": f"{summary['instances']}, with room for {summary['instance_tokens']} tokens "
        "of KV each",
        "prefill iterations": _by_degree(summary["prefills_by_degree"]),
        "decode iterations": _by_degree(summary["decodes_by_degree"]),
        "the longest prompt": f"its KV lay on {summary['longest_prompt_instances']} instances",
        "KV moved": f"{summary['migrated_tokens']} tokens",
    }


def _by_degree(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} on {degree}" for degree, n in sorted(counts.items())) + " instances"


def _progress(state: WorkerState, _: Recording) -> str:
    part = elastic(state)
    groups = "; ".join(f"{g.kind} on {_named(g.instances)}" for g in part.groups)
    used = (
        f"{100 * (1 - free / capacity):.0f} %"
        for free, capacity in zip(part.free_tokens, part.capacity_tokens, strict=True)
    )
    return (
        f"KV {', '.join(used)} | {state.num_waiting} waiting, {part.num_running} running | "
        f"{groups or 'idle'}"
    )


def _named(instances: tuple[int, ...]) -> str:
    return "+".join(map(str, sorted(instances)))


ELASTIC: Final = Demo(
    about=f"one worker of {_INSTANCES} elastic instances, one CPU rank each",
    picture="elastic.png",
    num_requests=24,
    flags=(
        f"--elastic-instances={_INSTANCES}",
        f"--kv-cache-memory-bytes={_INSTANCE_TOKENS * _TOKEN_BYTES}",
        "--enforce-eager",
        *as_flags(_ENGINE),
    ),
    reference=Layout(),
    reference_engine=_ENGINE | {"kv_cache_memory_bytes": 192 << 20},
    make_requests=make_requests,
    progress=_progress,
    summary=_summary,
    rows=_rows,
    draw=draw,
)
