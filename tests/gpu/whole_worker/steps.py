"""The steps of the check. Each returns its figures, and raises if something is wrong."""

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpu.whole_worker import machine_facts
from gpu.whole_worker.engines import (
    Context,
    engine_arguments,
    flags_of,
    margin_of,
    sharing,
    worker_of,
)
from gpu.whole_worker.plan import parse_pair
from integration.worker.test_exactness import ask_all
from integration.worker.test_faults import CLIENTS_HEAR_WITHIN_S, kill_under_load
from integration.worker.test_integrity import Setup, play
from seesaw_cli.serve.local import LocalWorker
from seesaw_core.layouts import Layout, LayoutPair
from seesaw_worker.modes.static.reference import Sample, plain_tokens
from support.process_watch.machine import GONE_WITHIN_S, Machine, find, living, role_of, wait_for
from support.worker_states import resharding

Figures = dict[str, Any]
TESTS = Path(__file__).parents[2]
NEAR_TIE = 0.05  # of log-probability: what bf16's rounding moves
SNAPSHOTS_BELOW = 0.01
DEVICE_MEMORY_SLACK = 64 << 20


def versions(context: Context) -> Figures:
    return {**machine_facts.versions(), "devices": machine_facts.devices()}


def contract(context: Context) -> Figures:
    return _pytest_counts(_run([sys.executable, "-m", "pytest", "-q", str(TESTS / "contract")]))


def device(context: Context) -> Figures:
    said = _run([sys.executable, str(TESTS / "gpu" / "check_cuda_device.py")])
    return {"said": said.strip().splitlines()[-1]}


def plain(context: Context, dtype: str) -> Figures:
    """The worker as plain vLLM answers as plain vLLM does."""
    samples, model = context.samples(), context.model(dtype)
    engine = engine_arguments(context.options, dtype)
    expected = plain_tokens(model, Layout(), samples, engine, context.folder)
    flags = ["--reshard=never", "--enforce-eager"]
    flags += [f"--{name.replace('_', '-')}={value}" for name, value in engine.items()]
    with worker_of(context, model, flags, 1) as worker:
        tokens = asyncio.run(ask_all(worker.url, worker.model, samples))
        return _compared(worker, samples, tokens, expected, exact=dtype == "float32")


def transitions(context: Context, pair: str) -> Figures:
    """100 transitions: weights as they were, really copied, and as fast as a memcpy."""
    at = parse_pair(pair)
    found: Figures = play("figures_of_100_transitions", context.model(), _setup(context, at))
    for role, figures in found.items():
        assert figures["weight_bytes"] > 0, f"{role}: no weights were copied"
        share = figures["snapshot_bytes"] / figures["region_bytes"]
        figures["snapshot_share"] = share
        figures["weights_over_memcpy"] = figures["weights_s"] / figures["memcpy_s"]
        assert share < SNAPSHOTS_BELOW, f"{role}: {share:.1%} of the weights are snapshots"
    return found


def kv(context: Context, pair: str) -> Figures:
    """KV arrives as it left, and a flipped bit of it stops the worker."""
    setup = _setup(context, parse_pair(pair))
    play("kv_arrives_bit_for_bit", context.model(), setup)
    play("corrupted_kv_is_noticed", context.model(), setup)
    return {}


def tokens(context: Context, pair: str, dtype: str, mode: str) -> Figures:
    """Re-sharded answers are plain vLLM's in the decode layout, while every page is checked."""
    at, samples, model = parse_pair(pair), context.samples(), context.model(dtype)
    engine = engine_arguments(context.options, dtype)
    expected = plain_tokens(model, at.decode, samples, engine, context.folder)
    before = machine_facts.used_bytes()
    flags = flags_of(context.options, at, dtype, mode=mode)
    with worker_of(context, model, flags, at.decode.num_devices) as worker:
        found = asyncio.run(ask_all(worker.url, worker.model, samples))
        exact = dtype == "float32" and mode == "eager"
        figures = _compared(worker, samples, found, expected, exact=exact)
        state = resharding(worker.state())
        figures["transitions"] = state.transitions
        figures["resharded"] = state.paths.reshard_requests
        figures["device_bytes"] = machine_facts.used_bytes() - before
        figures["start_s"] = round(worker.start_s, 1)
    assert figures["resharded"] == sum(len(s.prompt) > 1 for s in samples), "some went in place"
    return figures


def kill(context: Context, pair: str, who: str) -> Figures:
    """A killed process: clients hear within seconds, and nothing of the worker is left."""
    at, machine = parse_pair(pair), Machine()
    before = machine_facts.used_bytes()
    flags = flags_of(context.options, at, "float32")
    with worker_of(context, context.model(), flags, at.decode.num_devices) as worker:
        machine.watch(worker)
        victim = find(worker, {"core": "EngineCore", "server": "server"}.get(who, _a_rank(worker)))
        clients, killed_s = asyncio.run(kill_under_load(worker, victim, seed=3))
        machine.assert_nothing_left()
        gone_s = time.monotonic() - killed_s
        figures: Figures = {
            "outcomes": sorted({c.outcome for c in clients}),
            "clients_heard_s": round(max(c.ended_s for c in clients) - killed_s, 2),
            "gone_s": round(gone_s, 2),
        }
        assert "running" not in figures["outcomes"], f"after {CLIENTS_HEAR_WITHIN_S} s: {figures}"
    held = wait_for(
        lambda: machine_facts.used_bytes() <= before + DEVICE_MEMORY_SLACK, GONE_WITHIN_S
    )
    assert held < GONE_WITHIN_S, f"device memory stays: {machine_facts.used_bytes() - before} bytes"
    return figures


def refused(context: Context, pair: str) -> Figures:
    """What does not fit is refused before anything is loaded, with the flag to change."""
    at = parse_pair(pair)
    flags = [
        *flags_of(context.options, at, "float32"),
        f"--kv-cache-memory-bytes={1 << 50}",
    ]
    worker = LocalWorker(context.model(), flags, log=context.folder / "refused.log")
    worker.launch()
    try:
        code = worker.process.wait(timeout=240)
    finally:
        worker.stop()
    said = (context.folder / "refused.log").read_text().strip().splitlines()[-1]
    assert code == 2, f"exit code {code}: {said}"
    assert "--kv-cache-memory-bytes" in said, said
    assert "GiB" in said, said
    return {"said": said}


STEPS: dict[str, Callable[..., Figures]] = {
    step.__name__: step
    for step in (versions, contract, device, plain, transitions, kv, tokens, kill, refused)
}


def _setup(context: Context, pair: LayoutPair) -> Setup:
    engine: dict[str, Any] = {}
    if context.options.gpus:
        engine = {"block_size": None, "kv_cache_memory_bytes": 1 << 30}
        flags, environment = sharing(context.options, pair.decode.num_devices)
        os.environ.update(environment)
        if flags:
            engine |= {"device_ids": ["+0", "-0"], "disable_custom_all_reduce": True}
    return Setup(prefill=pair.prefill, decode=pair.decode, engine=engine, always_replay=True)


def _compared(
    worker: LocalWorker,
    samples: list[Sample],
    ours: list[list[int]],
    theirs: list[list[int]],
    *,
    exact: bool,
) -> Figures:
    """How many answers differ, and by how much. Raises: AssertionError if by more than may be."""
    differing = [
        (sample, a, b) for sample, a, b in zip(samples, ours, theirs, strict=True) if a != b
    ]
    greedy = [found for found in differing if found[0].params["temperature"] == 0]
    margins = [margin_of(worker.url, worker.model, *found) for found in greedy]
    figures = {
        "samples": len(samples),
        "tokens": sum(map(len, ours)),
        "differing": len(differing),
        "largest_margin": max(margins, default=0.0),
    }
    assert not (exact and differing), f"answers differ from plain vLLM's: {figures}"
    assert figures["largest_margin"] < NEAR_TIE, f"not near ties: {figures}"
    return figures


def _a_rank(worker: LocalWorker) -> str:
    """A rank's name; an engine of one rank has it without a layout in it."""
    return next(role for p in living(worker) if (role := role_of(p)).startswith("Worker"))


def _run(command: list[str]) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    said = ended.stdout + ended.stderr
    assert ended.returncode == 0, said[-4000:]
    return said


def _pytest_counts(said: str) -> Figures:
    return {word: int(count) for count, word in re.findall(r"(\d+) (passed|skipped|failed)", said)}
