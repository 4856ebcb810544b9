"""Plain vLLM on a list of prompts: the reference to which Seesaw's tokens are compared.

It runs as a separate process, ``python -m seesaw_worker.modes.static.reference JOB``, so that
Seesaw affects nothing in it but how the engine core starts: on the CPU it is forked from a process
that has already imported vLLM, which saves half a minute. JOB is a JSON file, which names the file
for the outputs.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from seesaw_core.layouts import Layout
from seesaw_worker.processes.segments import mapped_segments, remove_segments
from seesaw_worker.processes.supervisor import descendants

_MODULE = "seesaw_worker.modes.static.reference"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One request: prompt tokens and vLLM's sampling parameters."""

    prompt: list[int]
    params: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The requests to run. ``engine`` holds vLLM's engine arguments beside model and layout."""

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
    """Patches the one gap that keeps plain vLLM from running pipeline-parallel on the CPU."""

    model_runner: Any

    def make_stage_inputs(self) -> None:
        from seesaw_worker.upstream.patches import make_stage_inputs

        make_stage_inputs(self.model_runner)


def plain_environment(layout: Layout) -> dict[str, str]:
    """Return the environment of plain vLLM. On the CPU each device gets a share of the cores."""
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


def plain_tokens(
    model: Path, layout: Layout, samples: list[Sample], engine: dict[str, Any], folder: Path
) -> list[list[int]]:
    """Run plain vLLM in a separate process. Returns the tokens of the first choice of each sample.

    Prompts are prefilled whole, since plain vLLM's CPU engine dies on a seeded prompt in chunks.
    The job, its output and the log go to ``folder``. Raises: RuntimeError with the end of the log.
    """
    output, log_file = folder / "plain-output.json", folder / "plain.log"
    job = Job(
        model=str(model),
        tensor=layout.tensor,
        pipeline=layout.pipeline,
        output=str(output),
        samples=samples,
        engine=engine
        | {
            "enforce_eager": True,
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": engine["max_model_len"],
        },
    )
    job.write(folder / "plain-job.json")
    with log_file.open("wb") as log:
        ended = subprocess.run(
            [sys.executable, "-m", _MODULE, str(folder / "plain-job.json")],
            env=plain_environment(layout),
            stdout=log,
            stderr=log,
            check=False,
        )
    if ended.returncode:
        raise RuntimeError(log_file.read_text(errors="replace")[-4000:])
    return [choices[0] for choices in json.loads(output.read_text())["tokens"]]


def run(job: Job) -> dict[str, Any]:
    """Generate all samples in one batch. Returns the tokens of each sample, and the seconds."""
    from vllm import LLM, SamplingParams

    llm = LLM(
        worker_extension_cls=f"{_MODULE}.StageInputs",
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
    # vLLM does not remove the shared memory of its CPU collectives.
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
