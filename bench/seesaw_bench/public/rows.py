"""Published runs: which model on which devices, asked for what, and what was measured.

Sources: ``systems/silicon_sample.csv`` of aiconfigurator-core 0.12 (PyPI, Apache-2.0), of which the
runs of vLLM with one engine are read; and a file of throughputs in the form of
``gpu,model,precision,tp,pp,isl,osl,value,unit,source``.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from seesaw_bench.public.harnesses import (
    CACHED,
    INFERENCEMAX,
    OLD_VLLM,
    SWEEP,
    TENSORRT,
    Harness,
)
from seesaw_core.errors import InputError
from seesaw_core.layouts import Layout

SAMPLE = Path("systems") / "silicon_sample.csv"
# The version of TensorRT-LLM's page whose mixtures of experts ran with ``enable_attention_dp``.
_SPLITS_REQUESTS = "@00f37686"
_SYSTEMS = {"h100_sxm": "H100-SXM", "h200_sxm": "H200", "b200_sxm": "B200", "b300_sxm": "B300"}
_GPUS = {
    "A100-SXM-80": "A100-SXM-80",
    "B200-180": "B200",
    "B200-SXM-180": "B200",
    "GB200-192": "GB200",
    "H100-SXM-80": "H100-SXM",
    "H200-SXM-141": "H200",
    "L4": "L4",
    "L40S": "L40S",
    "RTX-PRO-6000-Blackwell-Server (PCIe5)": "RTX-PRO-6000",
}


class Metric(StrEnum):
    """What was measured."""

    TPOT = "ms a token"
    TTFT = "ms to the first token"
    THROUGHPUT = "output tokens/s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One published run. Units: tokens; ``published`` by metric, in the metric's unit.

    ``accelerator`` is a name of the catalogue. ``concurrency`` is None if all requests came at
    once. With ``splits_requests`` the attention of each rank of a mixture of experts has requests
    of its own; ``splits_experts`` means that experts or attention were divided in other ways than
    are predicted here.
    """

    harness: Harness
    model: str
    precision: str
    accelerator: str
    layout: Layout
    prompt_tokens: int
    output_tokens: int
    concurrency: int | None
    published: dict[Metric, float]
    splits_requests: bool = False
    splits_experts: bool = False

    @property
    def title(self) -> str:
        return f"{self.model.rpartition('/')[2]} {self.precision or 'bf16'}"


def read_sample(file: Path) -> list[Row]:
    """Read vLLM's runs with one engine. Raises: InputError naming the file and the column."""
    return [
        _sample_row(cells)
        for cells in _cells(file, "backend", "mode", "silicon_tpot_ms")
        if cells["backend"] == "vllm" and cells["mode"] == "agg" and cells["system"] in _SYSTEMS
    ]


def read_throughput(file: Path) -> list[Row]:
    """Read published throughputs. Raises: InputError naming the file, and column or GPU."""
    return [_throughput_row(cells, file) for cells in _cells(file, "gpu", "tp", "value")]


def _cells(file: Path, *columns: str) -> Iterator[dict[str, str]]:
    try:
        with file.open(newline="", encoding="utf-8") as opened:
            reader = csv.DictReader(opened)
            missing = set(columns) - set(reader.fieldnames or ())
            if missing:
                raise InputError(f"{file}: no column {min(missing)}; give a published file")
            yield from reader
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{file}: cannot be read as CSV ({error})") from error


def _sample_row(cells: dict[str, str]) -> Row:
    ranks = int(cells["tp_size"])
    experts, attention = (int(cells[name] or 1) for name in ("moe_ep_size", "attention_dp_size"))
    return Row(
        harness=_harness(cells),
        model=cells["model_path"],
        precision=cells["precision"],
        accelerator=_SYSTEMS[cells["system"]],
        layout=Layout(tensor=ranks, pipeline=int(cells["pp_size"])),
        prompt_tokens=int(cells["isl"]),
        output_tokens=int(cells["osl"]),
        concurrency=int(cells["batch_size"]),
        published={
            Metric.TPOT: float(cells["silicon_tpot_ms"]),
            Metric.TTFT: float(cells["silicon_ttft_ms"]),
        },
        splits_experts=experts > 1 or attention > 1 or int(cells["moe_tp_size"] or 1) > ranks,
    )


def _harness(cells: dict[str, str]) -> Harness:
    """Return how the run was made, by where its figures were collected."""
    if "aic-auto-gap-analysis" not in cells["silicon_data_source"]:
        return INFERENCEMAX
    return CACHED if cells["precision"] else SWEEP


def _throughput_row(cells: dict[str, str], file: Path) -> Row:
    gpu = cells["gpu"]
    if gpu not in _GPUS:
        raise InputError(f"{file}: gpu={gpu!r} is not known; known: {', '.join(_GPUS)}")
    return Row(
        harness=TENSORRT if "TensorRT-LLM" in cells["source"] else OLD_VLLM,
        model=cells["model"],
        precision="" if cells["precision"] in ("fp16", "bf16") else cells["precision"],
        accelerator=_GPUS[gpu],
        layout=Layout(tensor=int(cells["tp"]), pipeline=int(cells["pp"])),
        prompt_tokens=int(cells["isl"]),
        output_tokens=int(cells["osl"]),
        concurrency=None,
        published={Metric.THROUGHPUT: float(cells["value"])},
        splits_requests=_SPLITS_REQUESTS in cells["source"],
    )
