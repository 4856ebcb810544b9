"""Plain vLLM as a subject of the benchmark of elastic instances: on one rank, or on all."""

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.v1.engine.async_llm import AsyncLLM

from seesaw_bench.elastic.asking import commands
from seesaw_bench.worker.link import Job, answer, run_subject


def engine_args(job: Job) -> AsyncEngineArgs:
    """Return the engine arguments that all subjects share."""
    return AsyncEngineArgs(
        model=job.model,
        dtype=job.dtype,
        enforce_eager=True,
        enable_prefix_caching=False,
        max_model_len=job.max_len,
        max_num_seqs=job.max_seqs,
        kv_cache_memory_bytes=job.pool_bytes,
        generation_config="vllm",
        skip_tokenizer_init=True,
        disable_log_stats=True,
    )


async def serve(fd: int, job: Job) -> None:
    """Run commands until the benchmark closes the connection."""
    args = engine_args(job)
    args.tensor_parallel_size = job.ranks
    args.max_num_batched_tokens = job.chunk
    args.worker_cls = "seesaw_bench.worker.plain_worker.PlainWeightsWorker"
    llm = AsyncLLM.from_engine_args(args)
    await answer(fd, commands(llm))
    llm.shutdown()


if __name__ == "__main__":
    run_subject(serve)
