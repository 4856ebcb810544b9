"""Plain vLLM's CPU worker without oneDNN packing: the same kernels as Seesaw's shared arena."""

from vllm.v1.worker.cpu_worker import CPUWorker

from seesaw_worker.upstream.patches import keep_plain_weights


class PlainWeightsWorker(CPUWorker):
    """vLLM's CPU worker, except that it keeps linear weights as plain parameters."""

    def load_model(self, *, load_dummy_weights: bool = False) -> None:
        keep_plain_weights()
        super().load_model(load_dummy_weights=load_dummy_weights)
