"""What the benchmark of elastic instances measures, and on which model."""

from dataclasses import dataclass, replace
from enum import StrEnum

from seesaw_worker.synthetic.spec import BENCH, TINY, ModelSpec

_MODEL = replace(
    BENCH,
    hidden_size=1024,
    intermediate_size=2816,
    num_layers=6,
    num_heads=16,
    num_kv_heads=4,
    vocab_size=8192,
    max_position_embeddings=16_640,
)


class Study(StrEnum):
    """The parts of the benchmark, each of which can run alone."""

    TTFT = "ttft"
    BESIDE = "beside"
    STEPS = "steps"
    OVERHEAD = "overhead"
    DIVIDE = "divide"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Units: tokens, seconds.

    lengths: of the prompts whose first token is timed; ``context`` of the decoding requests.
    short_number, short_every_s, short_prompt, short_tokens: the stream beside ``long_prompt``.
    chunk: the most tokens of a step of plain vLLM, which prefills longer prompts in chunks.
    """

    rounds: int
    studies: tuple[Study, ...] = tuple(Study)
    spec: ModelSpec = _MODEL
    lengths: tuple[int, ...] = (128, 512, 2048, 8192, 16_384)
    context: int = 256
    decoded: int = 64
    batches: tuple[int, ...] = (1, 8)
    short_number: int = 24
    short_every_s: float = 0.4
    short_prompt: int = 64
    short_tokens: int = 16
    long_prompt: int = 8192
    chunk: int = 2048

    @classmethod
    def quick(cls, rounds: int, studies: tuple[Study, ...]) -> "Workload":
        """Return a workload that is small enough for a test."""
        return cls(
            rounds=rounds,
            studies=studies,
            spec=replace(TINY, max_position_embeddings=1200),
            lengths=(128, 512, 1024),
            context=64,
            decoded=24,
            batches=(1, 4),
            short_number=8,
            short_every_s=0.1,
            long_prompt=1024,
        )

    @property
    def max_len(self) -> int:
        return max(*self.lengths, self.context + self.decoded) + 128
