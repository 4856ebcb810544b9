"""Makes the tasks of an iteration, by what each instance knows of each request already."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from vllm.sampling_params import SamplingType
from vllm.v1.request import Request

from seesaw_core.elastic.cache import CacheChange, Kept
from seesaw_core.elastic.driver import Move
from seesaw_core.elastic.placement import Placement, TokenRun
from seesaw_core.elastic.view import Decode, Migrate, Prefill
from seesaw_worker.modes.elastic.iteration import stripe
from seesaw_worker.modes.elastic.tasks import (
    MovedRow,
    PromptRow,
    SampledRow,
    SamplingState,
    ServedRow,
    SlotChange,
    Task,
    TaskKind,
    TaskResult,
    TokenRow,
)

Mask: TypeAlias = npt.NDArray[np.int32]


class TaskComposer:
    """Knows what each instance holds and remembers of each request and each cached context.

    An instance hears of what it may release or forget with its next task.
    """

    def __init__(self, num_instances: int) -> None:
        self._changes: list[list[SlotChange]] = [[] for _ in range(num_instances)]
        self._forgotten: list[list[str]] = [[] for _ in range(num_instances)]
        self._holders: dict[str, set[int]] = {}
        self._known_outputs: dict[str, dict[int, int]] = {}
        self._samplers: dict[str, set[int]] = {}
        self._generators: dict[str, tuple[int, npt.NDArray[np.uint8]]] = {}

    def __len__(self) -> int:
        """Requests and contexts of which any instance holds or remembers something."""
        return len(self._holders.keys() | self._samplers.keys() | self._generators.keys())

    def prefill(
        self, step: Prefill, requests: Mapping[str, Request], masks: Mapping[str, Mask]
    ) -> dict[int, Task]:
        """Return the task of each instance of a prefill."""
        for key in step.taken_over:
            self._rename(step.reused[key].source, key, step.reused[key].placement)
        size = len(step.instances)
        tasks = self._tasks(TaskKind.PREFILL, step.instances)
        for key, placement in step.placements.items():
            request = requests[key]
            self._holders[key] = set(placement.tokens_by_instance())
            for instance, row in _prompt_rows(request, step, placement).items():
                tasks[instance].prompts.append(row)
            sampler = step.instances[(request.num_tokens - step.num_reused(key) - 1) % size]
            tasks[sampler].sampled.append(self._sampled(sampler, request, masks.get(key)))
        return tasks

    def decode(
        self,
        step: Decode,
        requests: Mapping[str, Request],
        placements: Mapping[str, Placement],
        masks: Mapping[str, Mask],
    ) -> dict[int, Task]:
        """Return the task of each instance of a decode iteration.

        placements: of each request, the token of this iteration included.
        """
        tasks = self._tasks(TaskKind.DECODE, step.instances)
        for key, master in step.masters.items():
            request, held = requests[key], placements[key].tokens_by_instance()
            self._holders[key].add(master)
            peers = tuple(instance for instance in held if instance != master)
            tasks[master].tokens.append(
                TokenRow(
                    key=key,
                    token_id=request.all_token_ids[-1],
                    position=request.num_tokens - 1,
                    num_kept=held[master] - 1,
                    peers=peers,
                )
            )
            tasks[master].sampled.append(self._sampled(master, request, masks.get(key)))
            for peer in peers:
                asked = tasks[peer].served.setdefault(master, [])
                asked.append(ServedRow(key=key, num_kept=held[peer]))
        return tasks

    def migrate(self, step: Migrate, moves: Iterable[Move]) -> dict[int, Task]:
        """Return the tasks of source and target. ``moves`` are the step's, among others."""
        tasks = self._tasks(TaskKind.MIGRATE, step.instances)
        rows = [
            MovedRow(key=move.key, num_moved=move.num_moved, num_kept=move.num_kept)
            for move in moves
            if move.key in step.keys
        ]
        for key in step.keys:
            self._holders[key].discard(step.source)
            self._holders[key].add(step.target)
        for task in tasks.values():
            task.moved = rows
        return tasks

    def learn(self, instance: int, result: TaskResult) -> None:
        """Take in the generators' states after an iteration."""
        for key, state in result.generators.items():
            self._generators[key] = (instance, state)

    def distrust(self, keys: Iterable[str]) -> None:
        """After an iteration that failed: any instance may have sampled for these requests."""
        for key in keys:
            self._known_outputs.pop(key, None)

    def cut(self, key: str, instance: int, num_kept: int) -> None:
        """After a decode iteration that failed: a master may have kept the KV of a token."""
        self._changes[instance].append(SlotChange(key=key, num_tokens=num_kept))

    def suspect(self, key: str, instances: Iterable[int]) -> None:
        """After a migration that failed: both instances may hold something of a request."""
        self._holders[key].update(instances)

    def change(self, change: CacheChange) -> None:
        """A request's KV stays as a cached context, or of a context less is left."""
        if isinstance(change, Kept):
            self._rename(change.request, change.key, change.placement)
        else:
            self._rename(change.key, "", change.placement)

    def release(self, key: str) -> None:
        """A request has no KV any more."""
        for instance in self._holders.pop(key, ()):
            self._changes[instance].append(SlotChange(key=key, num_tokens=0))

    def forget(self, key: str) -> None:
        """A request has ended."""
        self.release(key)
        self._generators.pop(key, None)
        self._known_outputs.pop(key, None)
        for instance in self._samplers.pop(key, ()):
            self._forgotten[instance].append(key)

    def lose(self, instance: int) -> None:
        """An instance is gone."""
        self._clear(instance)

    def _tasks(self, kind: TaskKind, ring: tuple[int, ...]) -> dict[int, Task]:
        tasks = {}
        for instance in ring:
            tasks[instance] = Task(
                kind=kind,
                ring=ring,
                slot_changes=self._changes[instance],
                forgotten=self._forgotten[instance],
            )
            self._clear(instance)
        return tasks

    def _clear(self, instance: int) -> None:
        self._changes[instance], self._forgotten[instance] = [], []

    def _rename(self, key: str, new_key: str, placement: Placement) -> None:
        """Of a key only ``placement`` is left, its first tokens; they are another's, if named."""
        left = placement.tokens_by_instance()
        for instance in self._holders.pop(key, set()):
            num_tokens = left.get(instance, 0)
            change = SlotChange(key=key, num_tokens=num_tokens, new_key=new_key)
            self._changes[instance].append(change)
        if left:
            self._holders[new_key or key] = set(left)

    def _sampled(self, instance: int, request: Request, mask: Mask | None) -> SampledRow:
        key, params = request.request_id, request.sampling_params
        assert params is not None
        known = self._known_outputs.setdefault(key, {})
        state = None
        if instance not in known:
            state = SamplingState(params=params, prompt_token_ids=list(request.prompt_token_ids))
        generator = None
        if params.sampling_type == SamplingType.RANDOM_SEED and key in self._generators:
            last, found = self._generators[key]
            generator = found if state is not None or last != instance else None
        start = known.get(instance, 0)
        known[instance] = request.num_output_tokens
        self._samplers.setdefault(key, set()).add(instance)
        return SampledRow(
            key=key,
            outputs_from=start,
            outputs=list(request.output_token_ids[start:]),
            state=state,
            generator=generator,
            bitmask=mask,
        )


def _prompt_rows(request: Request, step: Prefill, placement: Placement) -> dict[int, PromptRow]:
    """Return the prompt as each instance of the ring sees it."""
    assert request.sampling_params is not None
    key, tokens, size = request.request_id, request.all_token_ids, len(step.instances)
    prefix, first = step.reused.get(key), step.num_reused(key)
    takers = {step.reused[taker].source: taker for taker in step.taken_over}
    copied_from = ""
    if prefix is not None and key not in step.taken_over:
        copied_from = takers.get(prefix.source, prefix.source)
    number = request.sampling_params.prompt_logprobs if not request.num_output_tokens else None
    runs = tuple(_computed_runs(placement, first))
    rows = {}
    for place, instance in enumerate(step.instances):
        positions = [first + p for p in stripe(request.num_tokens - first, place, size)]
        following = [tokens[p + 1] for p in positions if p + 1 < request.num_prompt_tokens]
        rows[instance] = PromptRow(
            key=key,
            length=request.num_tokens,
            token_ids=[tokens[p] for p in positions],
            runs=runs,
            cached=dict(prefix.tokens_by_instance) if prefix is not None else {},
            copied_from=copied_from,
            num_prompt_logprobs=number,
            next_token_ids=[] if number is None else following,
        )
    return rows


def _computed_runs(placement: Placement, first: int) -> Iterator[TokenRun]:
    """Yield what the placement says of the tokens from ``first`` on."""
    for run in placement.runs:
        if run.stop > first:
            yield replace(run, start=max(run.start, first))
