"""Plain vLLM on a list of prompts: the reference that Seesaw's tokens are held against.

Runs as a process of its own, ``python -m seesaw_worker.modes.static.reference JOB``, so that
nothing of Seesaw is in it but the way its engine core starts: forked, on the CPU, from a process
that has imported vLLM already, which saves half a minute. JOB is a JSON file; the outputs go to
the path that it names.
"""

import json
import os
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from seesaw_core.layouts import Layout
from seesaw_worker.processes.segments import mapped_segments, remove_segments
from seesaw_worker.processes.supervisor import descendants


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One request: prompt tokens and vLLM's sampling parameters."""

    prompt: list[int]
    params: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to run. ``engine`` holds vLLM's engine arguments beside model and layout."""

    model: str
    tensor: int
    pipeline: int
    output: str
    samples: list[Sample]
    engine: dict[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> "Job":
        fields = json.loads(path.read_text())
        return cls(**fields | {"samples": [Sample(**s) for s in fields["samples"]]})


class StageInputs:
    """Mends the one gap without which plain vLLM cannot run pipeline-parallel here."""

    model_runner: Any

    def make_stage_inputs(self) -> None:
        from seesaw_worker.upstream.patches import make_stage_inputs

        make_stage_inputs(self.model_runner)


def plain_environment(layout: Layout) -> dict[str, str]:
    """The environment of a plain vLLM; on the CPU, with one share of the cores a device."""
    from seesaw_worker.processes.forking import (
        BIND_VARIABLE,
        divide_cores,
        find_cpu_build,
        parse_cores,
    )

    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SEESAW_", BIND_VARIABLE))}
    kept |= {
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    if find_cpu_build() is None:
        return kept
    return kept | {
        "OMP_NUM_THREADS": str(len(parse_cores(divide_cores(layout.num_devices)[0]))),
        BIND_VARIABLE: "|".join(divide_cores(layout.num_devices)),
        "TORCHDYNAMO_DISABLE": "1",
    }


def run(job: Job) -> dict[str, Any]:
    """Generate all samples in one batch. Returns tokens by sample, and seconds."""
    from vllm import LLM, SamplingParams

    llm = LLM(
        worker_extension_cls="seesaw_worker.modes.static.reference.StageInputs",
        model=job.model,
        tensor_parallel_size=job.tensor,
        pipeline_parallel_size=job.pipeline,
        distributed_executor_backend="mp",
        disable_log_stats=True,
        **job.engine,
    )
    llm.collective_rpc("make_stage_inputs")
    began = time.perf_counter()
    outputs = llm.generate(
        [{"prompt_token_ids": s.prompt} for s in job.samples],
        [SamplingParams(**s.params) for s in job.samples],
        use_tqdm=False,
    )
    seconds = time.perf_counter() - began
    # vLLM would leave the shared memory of its collectives on the CPU behind.
    remove_segments(s for s in mapped_segments(descendants()) if s.name.startswith("vllm_dist_"))
    tokens = [[list(c.token_ids) for c in o.outputs] for o in outputs]
    return {"tokens": tokens, "seconds": seconds}


if __name__ == "__main__":
    from seesaw_worker.processes import forking

    if forking.find_cpu_build():
        forking.start_fork_server(forking.PLAIN_PRELOAD)
        forking.fork_instead_of_spawning()
    the_job = Job.read(Path(sys.argv[1]))
    Path(the_job.output).write_text(json.dumps(run(the_job)))
