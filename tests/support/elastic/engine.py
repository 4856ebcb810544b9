"""An elastic engine in one process, and what its tests ask of it.

Runs as a process of its own, ``python -m support.elastic.engine JOB``: JOB is a JSON file, and the
report goes to the path that it names.
"""

import json
import os
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from seesaw_worker.modes.static.reference import Sample
from seesaw_worker.processes.segments import mapped_segments, remove_segments
from seesaw_worker.processes.supervisor import descendants

ELASTIC = "seesaw_worker.modes.elastic"


@dataclass(frozen=True, slots=True, kw_only=True)
class ElasticJob:
    """Samples to generate, all at once. ``engine`` holds vLLM's arguments, ``settings`` ours.

    With ``caching`` they are generated twice over, so that what the first left is used.
    """

    model: str
    output: str
    samples: list[Sample]
    engine: dict[str, Any]
    settings: dict[str, Any]
    worker: str = f"{ELASTIC}.worker.ElasticWorker"
    scheduler: str = f"{ELASTIC}.scheduler.ElasticScheduler"
    caching: bool = False

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> "ElasticJob":
        fields = json.loads(path.read_text())
        return cls(**fields | {"samples": [Sample(**s) for s in fields["samples"]]})


@dataclass(frozen=True, slots=True, kw_only=True)
class ElasticReport:
    """Tokens by sample, what each rank reports afterwards, and the state of the mode."""

    tokens: list[list[int]]
    ranks: list[dict[str, Any]]
    state: dict[str, Any]
    left: dict[str, int]
    seconds: float = 0.0
    more: dict[str, Any] = field(default_factory=dict)


def run(job: ElasticJob) -> ElasticReport:
    """Generate all samples in one batch."""
    from vllm import LLM, SamplingParams

    from seesaw_worker.modes.elastic.settings import InstanceSettings

    settings = InstanceSettings(**job.settings)
    llm = LLM(
        model=job.model,
        tensor_parallel_size=settings.tensor,
        distributed_executor_backend=f"{ELASTIC}.executor.ElasticExecutor",
        scheduler_cls=job.scheduler,
        worker_cls=job.worker,
        additional_config=settings.added_to({}),
        enable_prefix_caching=job.caching,
        enforce_eager=True,
        disable_log_stats=True,
        **job.engine,
    )
    core = llm.llm_engine.engine_core.engine_core
    began = time.perf_counter()
    tokens = []
    for _ in range(1 + job.caching):
        outputs = llm.generate(
            [{"prompt_token_ids": s.prompt} for s in job.samples],
            [SamplingParams(**s.params) for s in job.samples],
            use_tqdm=False,
        )
        tokens.append([list(o.outputs[0].token_ids) for o in outputs])
    seconds = time.perf_counter() - began
    books = core.scheduler.books
    counts = asdict(books.driver.cache.counts)
    if job.caching:
        core.reset_prefix_cache()
    report = ElasticReport(
        tokens=tokens[-1],
        more={"tokens": tokens, "cache": counts},
        ranks=llm.collective_rpc("elastic_info"),
        state=books.snapshot(),
        left={
            "requests": len(books.requests),
            "driver": len(books.driver),
            "placements": len(books.driver.pool),
            "composer": len(books.composer),
        },
        seconds=seconds,
    )
    segments = mapped_segments(descendants())
    core.model_executor.shutdown()
    remove_segments(s for s in segments if s.name.startswith("vllm_dist_"))
    return report


if __name__ == "__main__":
    from seesaw_worker.processes import forking

    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    if forking.find_cpu_build():
        forking.start_fork_server(forking.PLAIN_PRELOAD)
        forking.fork_instead_of_spawning()
    the_job = ElasticJob.read(Path(sys.argv[1]))
    Path(the_job.output).write_text(json.dumps(asdict(run(the_job))))
