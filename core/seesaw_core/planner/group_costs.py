"""The cost model of elastic groups: iterations of several full replicas on shares of a context.

Each instance is a replica under one layout. In a prefill of degree d it computes every d-th token,
while the KV of the others passes around the ring beside the attention. In a decode iteration each
master computes its own requests; queries go to the instances that hold their KV, and partial
outputs come back.

Source: Wu et al., LoongServe (arXiv 2404.09526), section 4; Li et al., DistFlashAttn and Brandon et
al., Striped Attention, for the overlap of ring and attention.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from seesaw_core.elastic.costs import GroupCosts, PrefillCost
from seesaw_core.elastic.fitting import Sample, fit_prefill_cost
from seesaw_core.planner.costs import MicroBatch, StepCosts

# Lengths at which the iterations of each degree are sampled, as the authors' profiler does.
_SAMPLED_TOKENS = (128, 1024, 8192, 65_536, 262_144)
# A master never has more requests, however slow its weights are.
_MAX_DECODE_REQUESTS = 1024
# Two messages a layer, there and back, as two steps of an all-reduce.
_MESSAGES_PER_LAYER = 2


@dataclass(frozen=True, slots=True)
class GroupStepCosts:
    """Times of groups whose instances each have ``costs``. Units: tokens, seconds."""

    costs: StepCosts

    def prefill_s(self, lengths: Sequence[int], degree: int, cached: Sequence[int] = ()) -> float:
        """Seconds to prefill whole prompts on ``degree`` instances.

        cached: of each prompt, the first tokens whose KV is there already; the others' queries see
        it too. All KV passes around the ring.
        """
        num_tokens = sum(lengths) - sum(cached)
        pairs = (sum(n**2 for n in lengths) - sum(n**2 for n in cached)) / 2
        own = -(-num_tokens // degree)
        compute_s = self.costs.step_s(
            MicroBatch(prefill_tokens=own, prefill_pairs=pairs / degree, sampled=len(lengths))
        )
        attention_s = self.costs.num_layers * self.costs.kernels.prefill_attention_s(
            own, pairs / degree
        )
        passing = -(-sum(lengths) // degree)
        return compute_s + max(0.0, self.ring_s(passing, degree) - attention_s)

    def decode_s(
        self, requests_by_master: Sequence[int], context_by_instance: Sequence[int]
    ) -> float:
        """Seconds of a decode iteration, which ends when its slowest instance does.

        requests_by_master: of each master. context_by_instance: tokens of KV that each reads.
        """
        requests, context = max(requests_by_master), max(context_by_instance)
        step_s = self.costs.step_s(
            MicroBatch(decode_requests=requests, decode_context=float(context))
        )
        if len(context_by_instance) == 1:
            return step_s
        return step_s + self.exchange_s(sum(requests_by_master))

    def migrate_s(self, num_tokens: int) -> float:
        """Seconds to send the KV of so many tokens to another instance."""
        num_bytes = num_tokens * self.costs.num_layers * self.costs.kv_bytes_per_token_layer
        return num_bytes / self._peer_bytes_per_s

    @property
    def decode_requests(self) -> int:
        """Requests from which on a decode iteration is bound by arithmetic, not by weights."""
        one_s = self.decode_s([1], [0])
        requests = 1
        while requests < _MAX_DECODE_REQUESTS and self.decode_s([2 * requests], [0]) < 1.5 * one_s:
            requests *= 2
        return requests

    def fitted(self, num_instances: int, decode_requests: int) -> GroupCosts:
        """What a manager knows of these costs after it has measured them."""
        prefill = {degree: self._fitted_prefill(degree) for degree in range(1, num_instances + 1)}
        return GroupCosts(
            prefill=prefill,
            decode_step_s=self.decode_s([decode_requests], [decode_requests * 1024]),
            decode_requests=decode_requests,
            migrate_s=self.migrate_s(1),
        )

    def _fitted_prefill(self, degree: int) -> PrefillCost:
        samples = [
            Sample(lengths=(n,), seconds=self.prefill_s([n], degree)) for n in _SAMPLED_TOKENS
        ]
        return fit_prefill_cost(samples).cost

    def ring_s(self, own_tokens: int, degree: int) -> float:
        """Seconds in which the other instances' KV passes by."""
        num_bytes = own_tokens * self.costs.num_layers * self.costs.kv_bytes_per_token_layer
        latency_s = self.costs.num_layers * self.costs.profile.all_reduce_latency_us * 1e-6
        return (degree - 1) * (num_bytes / self._peer_bytes_per_s + latency_s)

    def exchange_s(self, num_requests: int) -> float:
        """Seconds of queries and partial outputs, of which the slowest link carries all."""
        model = self.costs.model
        width = model.shape.num_heads * model.shape.head_dim / self.costs.layout.tensor
        num_bytes = 2 * num_requests * width * model.dtype_bytes
        latency_s = _MESSAGES_PER_LAYER * self.costs.profile.all_reduce_latency_us * 1e-6
        return self.costs.num_layers * (num_bytes / self._peer_bytes_per_s + latency_s)

    @property
    def _peer_bytes_per_s(self) -> float:
        return self.costs.device.peer_link.bytes_per_s * self.costs.profile.host_share


@dataclass(frozen=True)
class ContextParallelCosts(StepCosts):
    """Costs of a server whose ``degree`` instances always work together.

    Each computes its share of every prompt and holds its share of every context; one computes the
    new tokens of all requests, as LoongServe does with a fixed degree.
    """

    degree: int = 1

    def step_s(self, batch: MicroBatch) -> float:
        if self.degree == 1:
            return super().step_s(batch)
        share = replace(
            batch,
            prefill_tokens=-(-batch.prefill_tokens // self.degree),
            prefill_pairs=batch.prefill_pairs / self.degree,
            decode_context=batch.decode_context / self.degree,
        )
        seconds = super().step_s(share)
        if share.prefill_tokens:
            attention_s = self.num_layers * self.kernels.prefill_attention_s(
                share.prefill_tokens, share.prefill_pairs
            )
            ring_s = self._groups.ring_s(share.prefill_tokens, self.degree)
            seconds += max(0.0, ring_s - attention_s)
        if share.decode_requests:
            seconds += self._groups.exchange_s(share.decode_requests)
        return seconds

    @cached_property
    def _groups(self) -> GroupStepCosts:
        return GroupStepCosts(StepCosts(self.model, self.device, self.layout, self.profile))
