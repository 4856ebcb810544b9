"""Sampling on one instance, by vLLM's own sampler and input batch.

The masters of a request change, so any instance may sample its next token. An instance keeps what
it has learnt of a request, and the rows of each task bring what is new.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from vllm.sampling_params import SamplingType
from vllm.v1.core.sched.output import GrammarOutput, SchedulerOutput
from vllm.v1.structured_output.utils import apply_grammar_bitmask
from vllm.v1.worker.gpu_input_batch import CachedRequestState, InputBatch

from seesaw_worker.modes.elastic.tasks import SampledRow, TaskResult


class InstanceSampler:
    """vLLM's sampler over the requests of one task at a time."""

    def __init__(self, batch: InputBatch, sampler: Any, device: torch.device) -> None:
        self._batch, self._sampler, self._device = batch, sampler, device
        self._known: dict[str, CachedRequestState] = {}
        self._batched: dict[str, CachedRequestState] = {}

    def __len__(self) -> int:
        """Requests that this instance knows."""
        return len(self._known)

    def learn(self, rows: Sequence[SampledRow]) -> None:
        """Take in what the rows say of their requests."""
        for row in rows:
            if row.state is not None:
                self._known[row.key] = self._new(row)
            known = self._known[row.key]
            del known.output_token_ids[row.outputs_from :]
            known.output_token_ids.extend(row.outputs)
            if row.generator is not None and known.generator is not None:
                known.generator.set_state(torch.from_numpy(row.generator))

    def forget(self, keys: Sequence[str]) -> None:
        """Drop requests that have ended."""
        for key in keys:
            self._known.pop(key, None)

    def sample(self, rows: Sequence[SampledRow], logits: torch.Tensor) -> TaskResult:
        """Sample a token for each row. Shapes: logits [rows, vocabulary]."""
        keys = [row.key for row in rows]
        self._select(keys)
        place = self._batch.req_id_to_index
        order = sorted(range(len(keys)), key=lambda row: place[keys[row]])
        logits = logits[order]
        self._mask(rows, logits)
        output = self._sampler(logits=logits, sampling_metadata=self._batch.sampling_metadata)
        generators = {key: self._known[key].generator for key in keys}
        return TaskResult(
            keys=[keys[row] for row in order],
            token_ids=output.sampled_token_ids.flatten().tolist(),
            logprobs=output.logprobs_tensors.tolists() if output.logprobs_tensors else None,
            generators={k: g.get_state().numpy() for k, g in generators.items() if g is not None},
        )

    def _new(self, row: SampledRow) -> CachedRequestState:
        assert row.state is not None
        params = row.state.params
        generator = None
        if params.sampling_type == SamplingType.RANDOM_SEED:
            generator = torch.Generator(device=self._device)
            generator.manual_seed(params.seed)
        return CachedRequestState(
            req_id=row.key,
            prompt_token_ids=row.state.prompt_token_ids,
            mm_features=[],
            sampling_params=params,
            generator=generator,
            block_ids=tuple([] for _ in self._batch.block_table.block_tables),
            num_computed_tokens=0,
            output_token_ids=[],
        )

    def _select(self, keys: Sequence[str]) -> None:
        """Let vLLM's batch hold these requests and no others.

        It wants all that goes removed before anything is added, and is then condensed once.
        """
        wanted = {key: self._known[key] for key in keys}
        for key in [k for k, state in self._batched.items() if wanted.get(k) is not state]:
            self._batch.remove_request(key)
            del self._batched[key]
        for key, state in wanted.items():
            if key not in self._batched:
                self._batch.add_request(state)
                self._batched[key] = state
        self._batch.condense()
        self._batch.refresh_metadata()

    def _mask(self, rows: Sequence[SampledRow], logits: torch.Tensor) -> None:
        """Rule out tokens that a request's grammar does not allow."""
        masked = [row for row in rows if row.bitmask is not None]
        if masked:
            grammar = GrammarOutput(
                [row.key for row in masked],
                np.stack([row.bitmask for row in masked if row.bitmask is not None]),
                [0] * len(masked),
            )
            apply_grammar_bitmask(SchedulerOutput.make_empty(), grammar, self._batch, logits)
