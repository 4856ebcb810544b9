"""Runs the tasks of one rank of one instance on vLLM's model, sampler and KV memory."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from vllm.config import VllmConfig, get_layers_from_vllm_config
from vllm.forward_context import set_forward_context
from vllm.model_executor.layers.attention import Attention
from vllm.v1.outputs import LogprobsLists

from seesaw_worker.modes.elastic.attention import ElasticAttention
from seesaw_worker.modes.elastic.iteration import (
    Iteration,
    LocalPrefill,
    MasteredToken,
    MultiMasterDecode,
    RingPrefill,
)
from seesaw_worker.modes.elastic.memory import KvMemory, copy_tokens
from seesaw_worker.modes.elastic.peers import PeerError, Peers, Purpose
from seesaw_worker.modes.elastic.prefilling import Piece, passes
from seesaw_worker.modes.elastic.sampling import InstanceSampler
from seesaw_worker.modes.elastic.slots import Context, SlotTable
from seesaw_worker.modes.elastic.tasks import (
    PromptLogprobs,
    PromptRow,
    Task,
    TaskKind,
    TaskResult,
)

_LOGITS_ROWS = 256  # of prompt tokens at once


class TaskRunner:
    """One rank. Requires: the model is loaded and the KV memory is there."""

    def __init__(self, config: VllmConfig, model_runner: Any, number: int, peers: Peers) -> None:
        self.peers = peers
        self._config, self._runner, self._number = config, model_runner, number
        self._device: torch.device = model_runner.device
        self._layers: dict[str, Attention] = get_layers_from_vllm_config(config, Attention)
        memory = self._memories()[0]
        self.slots = SlotTable(memory.num_slots, memory.block_size)
        self.sampler = InstanceSampler(model_runner.input_batch, model_runner.sampler, self._device)
        self._most_tokens = int(config.scheduler_config.max_num_batched_tokens)
        self._others: list[int] = []
        self._failure: PeerError | None = None

    def run(self, task: Task) -> TaskResult:
        """Carry out a task.

        Raises: PeerError if another instance does not do its part. The connections within the
        group are broken then, so that no instance of it waits for what will not come.
        """
        self._others = [instance for instance in task.ring if instance != self._number]
        self._failure = None
        try:
            with torch.inference_mode():
                return self._run(task)
        except Exception:
            self.peers.drop(self._others)
            raise

    def _run(self, task: Task) -> TaskResult:
        began = time.perf_counter()
        for change in task.slot_changes:
            self.slots.change(change.key, change.num_tokens, change.new_key)
        self.sampler.forget(task.forgotten)
        self.sampler.learn(task.sampled)
        if task.kind is TaskKind.PREFILL:
            result = self._prefill(task)
        elif task.kind is TaskKind.DECODE:
            result = self._decode(task)
        else:
            result = self._migrate(task)
        if self._failure is not None:
            raise self._failure
        result.seconds = time.perf_counter() - began
        return result

    def _prefill(self, task: Task) -> TaskResult:
        for row in task.prompts:
            self._take_slots(row)
        place, size = task.ring.index(self._number), len(task.ring)
        sampled = {row.key for row in task.sampled}
        last: list[torch.Tensor] = []
        scored: dict[str, list[torch.Tensor]] = {}
        for pieces in passes(task.prompts, place, size, self._most_tokens):
            token_ids = [token for piece in pieces for token in piece.token_ids]
            positions = [position for piece in pieces for position in piece.positions]
            hidden = self._forward(self._prefill_pass(task.ring, pieces), token_ids, positions)
            if hidden is None:
                continue
            stripes = hidden.split([len(piece.positions) for piece in pieces])
            for piece, states in zip(pieces, stripes, strict=True):
                if piece.is_last and piece.row.key in sampled:
                    last.append(states[-1:])
                if piece.row.next_token_ids:
                    scored.setdefault(piece.row.key, []).append(states)
        result = self._sample(task, last)
        for row in task.prompts:
            if row.key in scored:
                found = self._prompt_logprobs(row, torch.cat(scored[row.key]))
                if found is not None:
                    result.prompt_logprobs[row.key] = PromptLogprobs(
                        first=place, step=size, lists=found
                    )
        return result

    def _take_slots(self, row: PromptRow) -> None:
        """Take the slots of a prompt, the first of them for what is cached here."""
        num_cached = row.cached.get(self._number, 0)
        self.slots.keep(row.key, 0 if row.copied_from else num_cached)
        if num_cached and row.copied_from:
            self.slots.take(row.key, num_cached)
            source, target = self.slots.of(row.copied_from), self.slots.of(row.key)
            copy_tokens(self._memories(), source, target, num_cached)
        self.slots.take(row.key, sum(len(r) for r in row.runs if r.instance == self._number))

    def _prefill_pass(self, ring: Sequence[int], pieces: Sequence[Piece]) -> Iteration:
        contexts = [self.slots.of(piece.row.key) for piece in pieces]
        is_local = len(ring) == 1 and all(
            len(context) == piece.row.length and context.is_paged
            for context, piece in zip(contexts, pieces, strict=True)
        )
        if is_local:
            computed = [(piece.start, piece.stop) for piece in pieces]
            return LocalPrefill(contexts, computed, self._device)
        place = ring.index(self._number)
        prompts = [
            piece.ring_prompt(ring, context, self._device)
            for piece, context in zip(pieces, contexts, strict=True)
        ]
        return RingPrefill(self.peers, ring, place, prompts)

    def _decode(self, task: Task) -> TaskResult:
        tokens = []
        for row in task.tokens:
            self.slots.keep(row.key, row.num_kept)
            slot = self.slots.take(row.key, 1)
            tokens.append(MasteredToken(slot=slot, context=self.slots.of(row.key), peers=row.peers))
        served: dict[int, list[Context]] = {}
        for master, rows in task.served.items():
            for asked in rows:
                self.slots.keep(asked.key, asked.num_kept)
            served[master] = [self.slots.of(asked.key) for asked in rows]
        iteration = MultiMasterDecode(self.peers, tokens, served, self._device)
        hidden = self._forward(
            iteration, [row.token_id for row in task.tokens], [row.position for row in task.tokens]
        )
        return TaskResult() if hidden is None else self._sample(task, [hidden])

    def _migrate(self, task: Task) -> TaskResult:
        """Send or receive the KV of requests, layer by layer."""
        source, target = task.ring
        if source == self._number:
            for row in task.moved:
                self.slots.keep(row.key, row.num_moved)
            slots = torch.cat([self.slots.of(row.key).tensor() for row in task.moved])
            slots = slots.to(self._device)
            for memory in self._memories():
                kv = memory.read(slots)
                self.peers.exchange(Purpose.MIGRATE, {target: kv}, {}).wait()
            for row in task.moved:
                self.slots.release(row.key)
            return TaskResult()
        for row in task.moved:
            self.slots.keep(row.key, row.num_kept)
        slots = torch.cat([self.slots.take(row.key, row.num_moved) for row in task.moved])
        slots = slots.to(self._device)
        for memory in self._memories():
            kv = memory.read(slots[:1]).repeat(len(slots), 1, 1, 1)  # for its shape
            self.peers.exchange(Purpose.MIGRATE, {}, {source: kv}).wait()
            memory.write(slots, *kv.unbind(1))
        return TaskResult()

    def _forward(
        self, iteration: Iteration, token_ids: Sequence[int], positions: Sequence[int]
    ) -> torch.Tensor | None:
        """Return [tokens, hidden size]; None without tokens, when only the attention takes part."""
        if not token_ids:
            for layer in self._layers.values():
                self._attention(layer).take_part(iteration, layer)
            return None
        lockstep = _Lockstep(iteration, partial(self.peers.drop, self._others))
        metadata = dict.fromkeys(self._layers, lockstep)
        ids = torch.tensor(token_ids, device=self._device)
        with set_forward_context(metadata, self._config, num_tokens=len(ids), slot_mapping={}):
            hidden: torch.Tensor = self._runner.model(
                input_ids=ids, positions=torch.tensor(positions, device=self._device)
            )
        self._failure = self._failure or lockstep.failure
        return hidden

    def _sample(self, task: Task, hidden: Sequence[torch.Tensor]) -> TaskResult:
        if not task.sampled:
            return TaskResult()
        logits = self._runner.model.compute_logits(torch.cat(list(hidden)))
        if logits is None:  # another rank of this instance has them
            return TaskResult()
        return self.sampler.sample(task.sampled, logits)

    def _prompt_logprobs(self, row: PromptRow, hidden: torch.Tensor) -> LogprobsLists | None:
        """Return the log-probabilities of the tokens that follow those of our stripe."""
        assert row.num_prompt_logprobs is not None
        sampler, parts = self._runner.sampler, []
        for start in range(0, len(row.next_token_ids), _LOGITS_ROWS):
            wanted = row.next_token_ids[start : start + _LOGITS_ROWS]
            logits = self._runner.model.compute_logits(hidden[start : start + len(wanted)])
            if logits is None:
                continue  # another rank of this instance has them
            raw = self._config.model_config.logprobs_mode in ("raw_logits", "processed_logits")
            scores = logits.float() if raw else sampler.compute_logprobs(logits)
            number = row.num_prompt_logprobs
            number = scores.shape[-1] if number == -1 else number
            target = torch.tensor(wanted, device=self._device)
            parts.append(sampler.gather_logprobs(scores, number, target))
        if not parts:
            return None
        ids, values, ranks = (torch.cat([part[field] for part in parts]) for field in range(3))
        return LogprobsLists(ids.cpu().numpy(), values.cpu().numpy(), ranks.cpu().numpy())

    def _memories(self) -> list[KvMemory]:
        return [self._attention(layer).memory(layer) for layer in self._layers.values()]

    @staticmethod
    def _attention(layer: Attention) -> ElasticAttention:
        assert isinstance(layer.impl, ElasticAttention)
        return layer.impl


class _Lockstep:
    """An iteration that goes on without attention once a peer is gone.

    The ranks of an instance meet in the collectives of every layer. If one left a forward pass in
    the middle, the others would wait for it, or meet it in the next pass.
    """

    def __init__(self, iteration: Iteration, break_off: Callable[[], None]) -> None:
        self.failure: PeerError | None = None
        self._iteration, self._break_off = iteration, break_off

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        memory: KvMemory,
        scale: float,
        output: torch.Tensor,
    ) -> None:
        if self.failure is None:
            try:
                self._iteration.attend(query, key, value, memory, scale, output)
                return
            except PeerError as error:
                self.failure = error
                self._break_off()
        output.zero_()
