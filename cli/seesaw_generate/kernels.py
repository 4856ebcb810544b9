"""Make the planner's tables of measured kernels from NVIDIA's aiconfigurator-core.

``python -m seesaw_generate.kernels FOLDER OUTPUT`` reads that package where it is installed and
writes one JSON file for each accelerator. ``make kernel-tables`` does so into a virtual environment
of its own, since nothing else needs the package or pyarrow.

A table is a grid over sizes; times between its points are interpolated in logarithms. Times that
fall as the number of tokens grows are noise of the measurement, for a kernel that computes more
tokens could compute fewer in the same time. So each time is the least of those for as many tokens
or more.

Source: https://pypi.org/project/aiconfigurator-core (Apache-2.0).
"""

import argparse
import json
import re
import sys
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import exp, log
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow.parquet

_SOURCE = "aiconfigurator-core 0.12.0 (PyPI, Apache-2.0)"
# Accelerators of our catalogue by the package's folder.
_FOLDERS = {
    "A100-SXM-80": "a100_sxm",
    "L40S": "l40s",
    "RTX-PRO-6000": "rtx_pro_6000_server",
    "H100-SXM": "h100_sxm",
    "H200": "h200_sxm",
    "B200": "b200_sxm",
    "B300": "b300_sxm",
    "GB200": "gb200",
}
_FORMATS = ("bfloat16", "fp8", "fp8_block", "nvfp4")
_TOKENS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_SIZES = (256, 1024, 2048, 4096, 6144, 8192, 12288, 16384, 65536)
_HEADS = (1, 4, 16, 64, 256, 1024)
_KEY_HEADS = (*_HEADS, 4096)
_CONTEXTS = (16, 128, 512, 1024, 2048, 4096, 8192, 16384, 65536)
_PROMPTS = (16, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_HEAD_SIZE = 128
_MOST_SHARED = 8  # query heads to a key head, beyond which decode kernels are slower
_DIGITS = 3

Row = Mapping[str, Any]
Curve = dict[float, float]  # milliseconds by size


def main(arguments: Sequence[str]) -> int:
    """Write the tables. Returns 0."""
    command = argparse.ArgumentParser(prog="seesaw_generate.kernels", description=__doc__)
    command.add_argument("folder", type=Path, help="where aiconfigurator_core is installed")
    command.add_argument("output", type=Path, help="where the tables go")
    options = command.parse_args(arguments)
    data = options.folder / "aiconfigurator_core" / "systems" / "data"
    for name, folder in _FOLDERS.items():
        text = json.dumps(_table(name, data / folder), separators=(",", ":"))
        (options.output / f"{name}.json").write_text(text.replace('},"', '},\n"') + "\n")
        print(f"{name}: {len(text):,} bytes", file=sys.stderr)
    return 0


def _table(name: str, folder: Path) -> dict[str, Any]:
    gemm = _newest(folder / "gemm" / "vllm", "gemm")
    decode = _newest(folder / "attention" / "vllm", "generation_attention")
    prefill = _newest(folder / "attention" / "vllm", "context_attention")
    reduces = [
        *_newest(folder / "comm" / "vllm", "custom_allreduce"),
        *_newest(folder / "comm" / "trtllm", "custom_allreduce"),
        *_newest(folder / "comm" / "nccl", "nccl"),
    ]
    return {
        "accelerator": name,
        "source": f"{_SOURCE}, systems/data/{folder.name}",
        "versions": {"vllm": gemm[0]["version"], "nccl": reduces[-1]["version"]},
        "products": {"tokens": _TOKENS, "sizes": _SIZES, "us": _products(gemm)},
        "decode_attention": {"heads": _KEY_HEADS, "contexts": _CONTEXTS, "us": _decode(decode)},
        "prefill_attention": {"heads": _HEADS, "lengths": _PROMPTS, "us": _prefill(prefill)},
        "all_reduce": _all_reduce(reduces),
    }


def _newest(folder: Path, name: str) -> list[Row]:
    """Read the table of the newest version that has one."""
    versions = [path.parent for path in folder.glob(f"*/{name}_perf.parquet")]
    newest = max(versions, key=lambda path: [int(part) for part in re.findall(r"\d+", path.name)])
    rows = pyarrow.parquet.read_table(newest / f"{name}_perf.parquet").to_pylist()
    return [{"version": newest.name} | row for row in rows]


def _products(rows: Iterable[Row]) -> dict[str, list[float]]:
    """Return [tokens, outputs, inputs] for each number format."""
    curves: dict[str, dict[tuple[int, int], Curve]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        curve = curves[row["gemm_dtype"]][row["n"], row["k"]]
        curve[row["m"]] = min(row["latency"], curve.get(row["m"], row["latency"]))
    grids = {}
    for dtype in _FORMATS:
        if dtype not in curves:
            continue
        known = {shape: _rising(curve) for shape, curve in curves[dtype].items()}
        grids[dtype] = [
            _us(_at(_nearest(known, outputs, inputs), tokens))
            for tokens in _TOKENS
            for outputs in _SIZES
            for inputs in _SIZES
        ]
    return grids


def _nearest(known: Mapping[tuple[int, int], Curve], outputs: int, inputs: int) -> Curve:
    """Return the curve of a shape; of one with fewer weights, scaled, if it was not measured."""
    if (outputs, inputs) in known:
        return known[outputs, inputs]
    near = min(known, key=lambda shape: abs(log(shape[0] / outputs)) + abs(log(shape[1] / inputs)))
    scale = outputs * inputs / (near[0] * near[1])
    return {tokens: scale * ms for tokens, ms in known[near].items()}


def _decode(rows: Iterable[Row]) -> dict[str, list[float]]:
    """Return [key heads of all requests, context] for each number format of KV."""
    return _attention(
        rows,
        sizes=lambda row: (
            row["batch_size"] * row["num_key_value_heads"],
            row["isl"] + row["step"],
        ),
        keep=lambda row: row["num_heads"] <= _MOST_SHARED * row["num_key_value_heads"],
        heads=_KEY_HEADS,
        lengths=_CONTEXTS,
    )


def _prefill(rows: Iterable[Row]) -> dict[str, list[float]]:
    """Return [query heads of all prompts, prompt] for each number format of KV."""
    return _attention(
        rows,
        sizes=lambda row: (row["batch_size"] * row["num_heads"], row["isl"]),
        keep=lambda _: True,
        heads=_HEADS,
        lengths=_PROMPTS,
    )


def _attention(
    rows: Iterable[Row],
    *,
    sizes: Callable[[Row], tuple[int, int]],
    keep: Callable[[Row], bool],
    heads: Sequence[int],
    lengths: Sequence[int],
) -> dict[str, list[float]]:
    found: dict[str, dict[tuple[int, int], list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        is_plain = row["head_dim"] == _HEAD_SIZE and not row.get("window_size")
        if is_plain and keep(row):
            found[row["kv_cache_dtype"]][sizes(row)].append(row["latency"])
    grids = {}
    for dtype, times in found.items():
        curves: dict[int, Curve] = defaultdict(dict)
        for (number, length), each in times.items():
            curves[number][length] = median(each)
        by_heads = {number: _rising(curve) for number, curve in sorted(curves.items())}
        grids[dtype] = [
            _us(_at({h: _at(curve, length) for h, curve in by_heads.items()}, number))
            for number in heads
            for length in lengths
        ]
    return grids


def _all_reduce(rows: Iterable[Row]) -> dict[str, Any]:
    """Return the times by bytes and number of devices, each of the fastest kernel.

    vLLM chooses between its own kernel, in a CUDA graph, FlashInfer's, which is TensorRT-LLM's,
    and NCCL's. The package counts elements of two bytes.
    """
    curves: dict[int, Curve] = defaultdict(dict)
    for row in rows:
        is_eager = row.get("backend", "").endswith("eager")
        is_wide = row.get("nccl_dtype", "half") == "half"
        if row["op_name"] == "all_reduce" and is_wide and not is_eager:
            curve, size = curves[row["num_gpus"]], 2 * row["message_size"]
            curve[size] = min(row["latency"], curve.get(size, row["latency"]))
    sizes = [2**power for power in range(8, 31)]
    us = {str(n): [_us(_at(_rising(c), size)) for size in sizes] for n, c in sorted(curves.items())}
    return {"bytes": sizes, "us": us}


def _rising(curve: Curve) -> Curve:
    """Return a curve without the points that are slower than a larger one."""
    rising: Curve = {}
    least = float("inf")
    for size in sorted(curve, reverse=True):
        least = rising[size] = min(least, curve[size])
    return dict(sorted(rising.items()))


def _at(curve: Curve, size: float) -> float:
    """Interpolate in logarithms; beyond the ends go on along the last two points, never falling."""
    points = sorted(curve)
    if len(points) == 1:
        return curve[points[0]] * max(1.0, size / points[0])
    place = min(max(bisect_left(points, size), 1), len(points) - 1)
    low, high = points[place - 1], points[place]
    slope = (log(curve[high]) - log(curve[low])) / (log(high) - log(low))
    return exp(log(curve[low]) + max(0.0, slope) * (log(size) - log(low)))


def _us(milliseconds: float) -> float:
    return float(f"{1e3 * milliseconds:.{_DIGITS}g}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
