"""How the published runs were made, as far as their sources say, and the software that ran.

What was fitted is fitted to all rows of a source at once: the overheads of its software, and the
time that clients and servers spend on a request outside of the engine. Nothing is fitted to a row,
a model, an accelerator or a layout.
"""

from dataclasses import dataclass, field, replace

from seesaw_core.planner.profiles import Profile

# Its overheads are those of vLLM of late 2025, with asynchronous scheduling.
VLLM = Profile()
# TensorRT-LLM's kernels are fused and its scheduler is in C++, but it hands tensors to the next
# stage slowly.
_TENSORRT_PROFILE = replace(
    VLLM,
    name="TensorRT-LLM",
    request_overhead_us=6.0,
    sustained_share=0.65,
    elementwise_share=0.5,
    send_latency_us=4000.0,
    memory_utilisation=0.95,
    pcie_all_reduce_share=0.6,
    pcie_fabric_links=8.0,
    cross_socket_slowdown=1.2,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Harness:
    """How a source's runs were made. Units: tokens, ms, us.

    Lengths are drawn evenly from ``least_share`` of the nominal ones up to these; with ``spreads``,
    those of prompts and answers are log-normal around them instead. ``rounds`` is the
    number of requests by the concurrency. ``unique_prompts`` repeat, so that later requests find
    theirs in the prefix cache; None means that none repeats. ``start_ms`` and
    ``start_us_per_token`` is the time to the first token outside of the engine. With ``narrow_kv``
    models in 8 or 4 bits keep KV in 8 bits, but not on the accelerators of ``wide_kv_on``. With
    ``reserves_output`` a request runs only if all its output has room. With ``is_order_only`` the
    software is too different for more than the order of its layouts.
    """

    name: str
    profile: Profile
    rounds: int = 10
    least_share: float = 0.8
    spreads: tuple[float, float] | None = None
    unique_prompts: int | None = None
    start_ms: float = 0.0
    start_us_per_token: float = 0.0
    step_tokens: int = 8192
    max_requests: int = 1024
    narrow_kv: bool = True
    wide_kv_on: frozenset[str] = field(default_factory=frozenset)
    reserves_output: bool = False
    is_order_only: bool = False


# Source: the scripts of https://github.com/InferenceMAX/InferenceMAX: ten prompts a client, lengths
# from 0.8 of the nominal ones, steps of 8,192 tokens.
INFERENCEMAX = Harness(
    name="InferenceMAX",
    profile=VLLM,
    start_ms=35.0,
    wide_kv_on=frozenset({"H100-SXM"}),
)
# vLLM 0.12, by the same collection. How it was asked is not published; lengths as above fit.
SWEEP = Harness(name="sweep", profile=VLLM, start_ms=15.0, start_us_per_token=40.0)
# vLLM 0.12. What was measured is far too fast for prompts that are all computed. NVIDIA's aiperf
# asks with 100 different prompts unless told otherwise, and the rounds are fitted.
CACHED = Harness(
    name="100 prompts",
    profile=VLLM,
    rounds=16,
    least_share=1.0,
    unique_prompts=100,
    start_ms=20.0,
    start_us_per_token=10.0,
)
# Source: docs/source/performance/perf-overview.md of TensorRT-LLM, which names the commands.
TENSORRT = Harness(
    name="TensorRT-LLM",
    profile=_TENSORRT_PROFILE,
    least_share=1.0,
    max_requests=2048,
    reserves_output=True,
)
# Requests of the same page by lengths; of others, 1,000.
TENSORRT_REQUESTS = {
    (128, 128): 30_000,
    (128, 2048): 3000,
    (128, 4096): 1500,
    (500, 2000): 3000,
    (1000, 1000): 3000,
    (1000, 2000): 1500,
    (2048, 128): 3000,
    (2048, 2048): 1500,
    (5000, 500): 1500,
    (20_000, 2000): 1000,
}
# Source: https://substratus.ai/blog/benchmarking-llama-3.1-70b-on-l4: 1,000 prompts of ShareGPT at
# once, vLLM of 2024 without CUDA graphs and chunks. Only the order of its layouts is compared.
OLD_VLLM = Harness(
    name="vLLM of 2024",
    profile=VLLM,
    spreads=(1.0, 0.8),
    step_tokens=32_768,
    max_requests=512,
    is_order_only=True,
)
