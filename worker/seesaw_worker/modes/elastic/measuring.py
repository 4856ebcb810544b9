"""What iterations cost on this machine, measured before requests are served.

Each degree prefills a few prompts, whose times give its constants; one group decodes and moves a
little KV. Without enough of them, as for models whose prompts are all short, a small table of
guesses stands in.
"""

import time
from collections.abc import Callable, Iterator

from vllm.config import VllmConfig

from seesaw_core.elastic.costs import GroupCosts, PrefillCost
from seesaw_core.elastic.fitting import Sample, fit_prefill_cost
from seesaw_core.elastic.placement import TokenRun
from seesaw_worker.modes.elastic.iteration import stripe
from seesaw_worker.modes.elastic.tasks import (
    MovedRow,
    PromptRow,
    SlotChange,
    Task,
    TaskKind,
    TaskResult,
    TokenRow,
)

RunGroup = Callable[[dict[int, Task]], dict[int, TaskResult]]

_COSTS = "seesaw_elastic_costs"
_ALPHA_S, _BETA_S, _GAMMA_S = 0.01, 1e-4, 1e-8
_BATCHES = ((16,), (128,), (32,) * 4, (512,), (256, 256), (1024,), (2048,), (4096,), (8192,))
_LONGEST_S = 10.0  # of one iteration; what will take longer is not measured
_GROWTH = 4.0  # at most, of the time from one batch to the next
_FEW, _MANY = 1, 8
_CONTEXT_TOKENS = 64
_DECODE_TOKENS = _MANY * (_CONTEXT_TOKENS + 1)
_MOST_REQUESTS = 256


def costs_of(config: VllmConfig, num_instances: int) -> GroupCosts:
    """Return the costs that were measured at the start, or guesses."""
    found = config.additional_config.get(_COSTS)
    return found if isinstance(found, GroupCosts) else guessed_costs(num_instances)


def guessed_costs(num_instances: int) -> GroupCosts:
    """Return costs of a small model on the CPU, as far as one can tell before anything has run."""
    return GroupCosts(
        prefill={
            degree: PrefillCost(
                alpha_s=_ALPHA_S * degree, beta_s=_BETA_S / degree, gamma_s=_GAMMA_S / degree
            )
            for degree in range(1, num_instances + 1)
        },
        decode_step_s=0.02,
        decode_requests=16,
        migrate_s=1e-5,
    )


def measure_costs(config: VllmConfig, num_instances: int, run: RunGroup) -> None:
    """Measure, and leave the costs for :func:`costs_of`. Raises: whatever ``run`` raises."""
    guess = guessed_costs(num_instances)
    longest = int(config.model_config.max_model_len)
    room = _instance_tokens(config, num_instances)
    prefill = {}
    for degree in range(1, num_instances + 1):
        samples = list(_prefill_samples(tuple(range(degree)), longest, room, run))
        enough = len(samples) >= len(_BATCHES) // 2
        prefill[degree] = fit_prefill_cost(samples).cost if enough else guess.prefill[degree]
    few_s, many_s, move_s = guess.decode_step_s, guess.decode_step_s, 0.0
    if longest > _CONTEXT_TOKENS and room >= _DECODE_TOKENS:
        few_s, many_s, move_s = _decode_and_move(num_instances, run)
    _release(num_instances, run)
    request_s = max(0.0, many_s - few_s) / (_MANY - _FEW)
    bound = round(few_s / request_s) if request_s * _MOST_REQUESTS > few_s else _MOST_REQUESTS
    config.additional_config[_COSTS] = GroupCosts(
        prefill=prefill,
        decode_step_s=many_s,
        decode_requests=max(1, bound),
        migrate_s=max(move_s, 1e-9),
    )


def _prefill_samples(
    ring: tuple[int, ...], longest: int, room: int, run: RunGroup
) -> Iterator[Sample]:
    """Prefill as served prompts are: their KV stays on one instance, as far as it has room."""
    _prefill(ring, _BATCHES[0], run, keeper=ring[0])  # what comes first takes longer
    expected_s = 0.0
    for lengths in _BATCHES:
        if max(lengths) > longest or sum(lengths) > room or expected_s > _LONGEST_S:
            return
        seconds = _prefill(ring, lengths, run, keeper=ring[0])
        yield Sample(lengths=lengths, seconds=seconds)
        expected_s = _GROWTH * seconds


def _prefill(
    ring: tuple[int, ...],
    lengths: tuple[int, ...],
    run: RunGroup,
    keeper: int,
) -> float:
    """Prefill prompts, all of whose KV stays on one instance. Return the seconds."""
    tasks = {}
    for place, instance in enumerate(ring):
        rows = [
            PromptRow(
                key=_key(number),
                length=length,
                token_ids=[0] * len(stripe(length, place, len(ring))),
                runs=(TokenRun(instance=keeper, start=0, stop=length),),
            )
            for number, length in enumerate(lengths)
        ]
        tasks[instance] = Task(
            kind=TaskKind.PREFILL, ring=ring, prompts=rows, slot_changes=_releases()
        )
    return _seconds(tasks, run)


def _decode_and_move(num_instances: int, run: RunGroup) -> tuple[float, float, float]:
    """Return the seconds of decoding few requests and many, and of moving one token's KV."""
    _prefill((0,), (_CONTEXT_TOKENS,) * _MANY, run, keeper=0)
    few_s, many_s = (min(_decode(number, run) for _ in range(3)) for number in (_FEW, _MANY))
    move_s = 0.0
    if num_instances > 1:
        rows = [MovedRow(key=_key(0), num_moved=_CONTEXT_TOKENS, num_kept=0)]
        ring = (0, 1)
        tasks = {i: Task(kind=TaskKind.MIGRATE, ring=ring, moved=rows) for i in ring}
        # The ranks' own time, as that of the calls does not grow with the tokens.
        move_s = max(result.seconds for result in run(tasks).values()) / _CONTEXT_TOKENS
    return few_s, many_s, move_s


def _release(num_instances: int, run: RunGroup) -> None:
    """Give back all slots."""
    ring = tuple(range(num_instances))
    run({i: Task(kind=TaskKind.DECODE, ring=ring, slot_changes=_releases()) for i in ring})


def _releases() -> list[SlotChange]:
    """Return what gives back all slots of prompts before."""
    keys = [_key(number) for number in range(max(_MANY, *map(len, _BATCHES)))]
    return [SlotChange(key=key, num_tokens=0) for key in keys]


def _decode(num_requests: int, run: RunGroup) -> float:
    rows = [
        TokenRow(
            key=_key(number),
            token_id=0,
            position=_CONTEXT_TOKENS,
            num_kept=_CONTEXT_TOKENS,
            peers=(),
        )
        for number in range(num_requests)
    ]
    return _seconds({0: Task(kind=TaskKind.DECODE, ring=(0,), tokens=rows)}, run)


def _instance_tokens(config: VllmConfig, num_instances: int) -> int:
    cache = config.cache_config
    return int(cache.num_gpu_blocks or 0) // num_instances * int(cache.block_size)


def _key(number: int) -> str:
    return f"warm-up-{number}"


def _seconds(tasks: dict[int, Task], run: RunGroup) -> float:
    """Run an iteration. Return its time as the scheduler sees it, with the calls of all ranks."""
    began = time.perf_counter()
    run(tasks)
    return time.perf_counter() - began
