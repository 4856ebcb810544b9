"""Small random Hugging Face checkpoints, so that everything runs without access to a model hub.

The demo, the tests and the benchmarks create their models here. A checkpoint is complete: weights,
configuration, tokenizer and chat template. The models hardly ever sample special tokens, so a
generation ends at its token limit, at a stop string or at the end of a grammar. This package knows
the checkpoint format and nothing of engines, layouts or servers.
"""

from seesaw_worker.synthetic.checkpoint import hf_config, write_checkpoint
from seesaw_worker.synthetic.spec import (
    BENCH,
    DEMO,
    TINY,
    TINY_MISTRAL,
    TINY_MIXTRAL,
    TINY_MQA,
    TINY_QWEN3,
    Architecture,
    ModelSpec,
)
from seesaw_worker.synthetic.tensors import num_parameters, weights_bytes

__all__ = [
    "BENCH",
    "DEMO",
    "TINY",
    "TINY_MISTRAL",
    "TINY_MIXTRAL",
    "TINY_MQA",
    "TINY_QWEN3",
    "Architecture",
    "ModelSpec",
    "hf_config",
    "num_parameters",
    "weights_bytes",
    "write_checkpoint",
]
