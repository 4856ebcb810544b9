"""Patches of gaps in vLLM, each with what goes wrong without it.

Every patch has a contract test that fails once vLLM has closed the gap itself, so that no patch
outlives its reason. Patches apply only inside Seesaw's own processes.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from seesaw_worker.processes.run_folder import SHM
from seesaw_worker.processes.shm import reserve

QUEUE_CHUNK_BYTES = 2 << 20
_SPIN_S = 0.01
_POLL_CAP_MS = 20
_spin_s = _SPIN_S


def calm_idle_readers() -> None:
    """Make an idle engine leave its cores to the other one.

    In vLLM a reader of the shared-memory queue spins for 1 s after its last message, so a frozen
    engine would take a whole core for that long. The cap on the poll bounds the cost of a lost
    wake-up, which is up to 5 s in vLLM.
    """
    from vllm.distributed.device_communicators.shm_broadcast import SpinCondition

    if getattr(SpinCondition, "_seesaw_calm", False):
        return
    wait = SpinCondition.wait

    def calm_wait(self: Any, timeout_ms: int | None = None) -> None:
        self.busy_loop_s = _spin_s
        wait(self, _POLL_CAP_MS if timeout_ms is None else min(timeout_ms, _POLL_CAP_MS))

    SpinCondition.wait = calm_wait
    SpinCondition._seesaw_calm = True


def spin_when_idle(wanted: bool) -> None:
    """Set whether this process's readers may spin: not while its engine is frozen."""
    global _spin_s  # noqa: PLW0603 - vLLM creates the readers, so it cannot be passed to them
    _spin_s = _SPIN_S if wanted else 0.0


def name_rendezvous(new: Callable[[], Path]) -> None:
    """Make ``new`` name the files by which ranks find each other, and so the collectives' memory.

    vLLM removes neither: one file in the temporary directory and several segments in ``/dev/shm``
    per engine stay under names that are unknown after its processes have ended.
    """
    from vllm.v1.executor import multiproc_executor, uniproc_executor

    def rendezvous() -> str:
        return f"file://{new()}"

    for module in (multiproc_executor, uniproc_executor):
        module.get_file_store_init_method = rendezvous


def reserve_message_queues() -> None:
    """Make vLLM's message queues in shared memory small, and reserve their memory at the start.

    In vLLM a queue is a sparse file of 24 to 240 MiB that grows with its messages. If another
    process fills ``/dev/shm``, the worker ends by SIGBUS. Messages larger than a chunk go through
    vLLM's sockets, as before.
    """
    from vllm.distributed.device_communicators.shm_broadcast import ShmRingBuffer

    if getattr(ShmRingBuffer, "_seesaw_reserves", False):
        return
    make = ShmRingBuffer.__init__

    def make_reserved(
        self: Any, n_reader: int, max_chunk_bytes: int, max_chunks: int, name: str | None = None
    ) -> None:
        make(self, n_reader, min(max_chunk_bytes, QUEUE_CHUNK_BYTES), max_chunks, name)
        if name is None:
            memory = self.shared_memory
            path = SHM / memory.name
            reserve(memory._fd, memory.size, path=path, flag="--kv-buffer-gib")

    ShmRingBuffer.__init__ = make_reserved
    ShmRingBuffer._seesaw_reserves = True


def keep_plain_weights() -> None:
    """Keep linear weights as plain parameters on the CPU. Only for ``--weights shared``.

    vLLM packs each weight into a private oneDNN copy and empties the parameter, so that filling
    the arena would have no effect.
    """
    import vllm._custom_ops as ops

    ops._supports_onednn = False


def make_stage_inputs(model_runner: Any) -> None:
    """Create the input buffers of later pipeline stages.

    vLLM creates them in the warm-up run, which the CPU backend skips when it runs eagerly with a
    fixed KV-cache size. The first step of a stage above 0 would then fail.
    """
    from vllm.distributed import get_pp_group

    if get_pp_group().is_first_rank or model_runner.intermediate_tensors is not None:
        return
    model_runner.intermediate_tensors = model_runner.model.make_empty_intermediate_tensors(
        batch_size=model_runner.max_num_tokens,
        dtype=model_runner.model_config.dtype,
        device=model_runner.device,
    )


def rewind_seeded_generators_on_cpu() -> None:
    """Allow chunked prefill of seeded requests on the CPU.

    vLLM undoes the random draw of a partial prefill with ``set_offset``, which CPU generators
    lack, so the engine would die. This patch restores the state of the generator instead.
    """
    import numpy as np
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    if getattr(GPUModelRunner, "_seesaw_rewinds", False):
        return
    sample, bookkeep = GPUModelRunner._sample, GPUModelRunner._bookkeeping_sync

    def partial_generators(runner: Any) -> dict[int, Any]:
        batch = runner.input_batch
        discarded = np.nonzero(runner.discard_request_mask.np[: batch.num_reqs])[0]
        return {int(i): batch.generators[int(i)] for i in discarded if int(i) in batch.generators}

    def sample_and_rewind(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = {g: g.get_state() for g in partial_generators(self).values()}
        output = sample(self, *args, **kwargs)
        for generator, state in before.items():
            generator.set_state(state)
        return output

    def bookkeep_without_offsets(self: Any, *args: Any, **kwargs: Any) -> Any:
        rewound = partial_generators(self)
        for index in rewound:
            del self.input_batch.generators[index]
        try:
            return bookkeep(self, *args, **kwargs)
        finally:
            self.input_batch.generators.update(rewound)

    GPUModelRunner._sample = sample_and_rewind
    GPUModelRunner._bookkeeping_sync = bookkeep_without_offsets
    GPUModelRunner._seesaw_rewinds = True
