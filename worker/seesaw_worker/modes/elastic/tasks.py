"""What the scheduler sends to one instance for one iteration, and what comes back.

A task is complete: an instance remembers KV and the sampling state of requests between tasks, and
each task says how much of it still holds. So a task that failed, anywhere, leaves nothing to undo.

Units: tokens; ``num_kept`` counts tokens of a request whose KV an instance holds.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorMetadata
from vllm.sampling_params import SamplingParams
from vllm.v1.outputs import LogprobsLists, ModelRunnerOutput

from seesaw_core.elastic.placement import TokenRun


class TaskKind(StrEnum):
    PREFILL = "prefill"
    DECODE = "decode"
    MIGRATE = "migrate"


@dataclass(slots=True, kw_only=True)
class SamplingState:
    """A request as an instance that has never sampled for it must know it."""

    params: SamplingParams
    prompt_token_ids: list[int]


@dataclass(slots=True, kw_only=True)
class SampledRow:
    """A request for which this instance samples the next token.

    ``outputs`` are the output tokens from number ``outputs_from`` on, before which the instance
    knows them. ``state`` is there if the instance does not know the request. ``generator`` is the
    state of a seeded request's random generator if another instance has used it last.
    ``bitmask`` is the row of the grammar's mask of a request with structured output.
    """

    key: str
    outputs_from: int
    outputs: list[int]
    state: SamplingState | None = None
    generator: npt.NDArray[np.uint8] | None = None
    bitmask: npt.NDArray[np.int32] | None = None


@dataclass(slots=True, kw_only=True)
class SlotChange:
    """A key's slots on an instance are cut to the first; then they are another key's, if named.

    Keys are those of requests and of cached contexts.
    """

    key: str
    num_tokens: int
    new_key: str = ""


@dataclass(slots=True, kw_only=True)
class PromptRow:
    """A prompt of ``length`` tokens in a prefill, seen by one instance.

    Of it the first tokens are cached, ``cached`` on each instance of the ring. They are copied from
    the context ``copied_from``, or have been taken over already. ``token_ids`` are those of the
    stripe of the others. ``runs`` say where the KV of those stays.
    """

    key: str
    length: int
    token_ids: list[int]
    runs: tuple[TokenRun, ...]
    cached: dict[int, int] = field(default_factory=dict)
    copied_from: str = ""
    num_prompt_logprobs: int | None = None
    next_token_ids: list[int] = field(default_factory=list)

    @property
    def num_cached(self) -> int:
        """Tokens that nobody computes."""
        return sum(self.cached.values())


@dataclass(slots=True, kw_only=True)
class TokenRow:
    """A token in a decode iteration whose master is this instance.

    ``num_kept`` is what the instance holds of the request before it; ``peers`` hold more of it.
    """

    key: str
    token_id: int
    position: int
    num_kept: int
    peers: tuple[int, ...]


@dataclass(slots=True, kw_only=True)
class ServedRow:
    """A request whose token another instance computes, and of whose KV this one holds a part."""

    key: str
    num_kept: int


@dataclass(slots=True, kw_only=True)
class MovedRow:
    """A request all of whose KV on one instance moves to another, which holds ``num_kept``."""

    key: str
    num_moved: int
    num_kept: int


@dataclass(slots=True, kw_only=True)
class Task:
    """What one instance does in one iteration of its group.

    ``ring`` names the instances of the group, in the order of the ring; in a migration, source
    and target. ``served`` is by the instance that asks. ``slot_changes`` come first, in their
    order; ``forgotten`` requests have ended.
    """

    kind: TaskKind
    ring: tuple[int, ...]
    slot_changes: list[SlotChange] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    prompts: list[PromptRow] = field(default_factory=list)
    tokens: list[TokenRow] = field(default_factory=list)
    served: dict[int, list[ServedRow]] = field(default_factory=dict)
    moved: list[MovedRow] = field(default_factory=list)
    sampled: list[SampledRow] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class PromptLogprobs:
    """Log-probabilities of the prompt tokens that follow those of one stripe."""

    first: int
    step: int
    lists: LogprobsLists


@dataclass(slots=True, kw_only=True)
class TaskResult:
    """What an instance has sampled. ``generators`` holds the states of seeded requests after it."""

    keys: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: LogprobsLists | None = None
    generators: dict[str, npt.NDArray[np.uint8]] = field(default_factory=dict)
    prompt_logprobs: dict[str, PromptLogprobs] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(slots=True, kw_only=True)
class Launch:
    """An iteration of one group: its number, and the task of each instance.

    ``expected_s`` is how long it will take by what was measured; 0 if nobody knows.
    """

    number: int
    tasks: dict[int, Task]
    expected_s: float = 0.0


@dataclass(slots=True, kw_only=True)
class Ended:
    """An iteration that has ended: the results by instance, or why it failed."""

    number: int
    results: dict[int, TaskResult] = field(default_factory=dict)
    failure: str = ""
    seconds: float = 0.0


@dataclass
class ElasticStep(KVConnectorMetadata):
    """Rides on vLLM's scheduler output from the scheduler to the executor.

    ``snapshot`` returns the state of the mode as the server is to see it.
    """

    launches: list[Launch] = field(default_factory=list)
    snapshot: Callable[[], dict[str, Any]] = dict


@dataclass
class ElasticOutput(ModelRunnerOutput):
    """What the executor returns to the scheduler.

    ``lost`` names instances that are gone, each with the reason, once.
    """

    ended: list[Ended] = field(default_factory=list)
    lost: dict[int, str] = field(default_factory=dict)
