"""Plain vLLM in the decode layout, as a subject of the benchmark, without any part of Seesaw."""

import random
from typing import Any

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.v1.engine.async_llm import AsyncLLM

from seesaw_bench.worker.decoding import random_prompt, steady_decode
from seesaw_bench.worker.link import Job, answer, run_subject
from seesaw_bench.worker.workload import DECODE


def engine_args(job: Job) -> AsyncEngineArgs:
    """Return the engine arguments that all subjects share."""
    return AsyncEngineArgs(
        model=job.model,
        dtype=job.dtype,
        enforce_eager=True,
        max_model_len=job.max_len,
        max_num_seqs=job.max_seqs,
        max_num_batched_tokens=job.chunk,
        kv_cache_memory_bytes=job.pool_bytes,
        generation_config="vllm",
        skip_tokenizer_init=True,
        disable_log_stats=True,
    )


async def serve(fd: int, job: Job) -> None:
    """Run commands until the benchmark closes the connection."""
    args = engine_args(job)
    args.tensor_parallel_size = DECODE.tensor
    args.pipeline_parallel_size = DECODE.pipeline
    args.distributed_executor_backend = "mp"
    if job.kind == "plain":
        args.worker_cls = "seesaw_bench.worker.plain_worker.PlainWeightsWorker"
    llm = AsyncLLM.from_engine_args(args)

    async def decode(batch: int, context: int, tokens: int) -> dict[str, Any]:
        rng = random.Random(batch)
        prompts = [random_prompt(rng, context - tokens // 2) for _ in range(batch)]
        return await steady_decode(llm, prompts=prompts, max_tokens=tokens)

    async def ready() -> dict[str, Any]:
        return {}

    await answer(fd, {"ready": ready, "decode": decode})
    llm.shutdown()


if __name__ == "__main__":
    run_subject(serve)
