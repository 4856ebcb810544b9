"""The cost model: how long one step of a model takes under a layout, and how much KV fits.

A step runs one micro-batch through one pipeline stage. Its time is a sum over the stage's layers:
matrix products (bound by reading weights or by arithmetic), prefill attention (arithmetic),
decode attention (reading KV), two all-reduces, and small overheads. The profile holds the shares of
data-sheet figures that devices reach.

Source: Su et al., Seesaw (arXiv 2503.06433), appendix A.
Deviation: prefill attention is causal, ``2 b h_q s^2 d`` (the paper prints ``d^2``). Latency terms,
the output head, KV replication, experts, step and request overheads are added. A ring all-reduce
moves ``2 (n - 1) / n`` of its bytes over each link, and over PCIe the traffic of all devices shares
the host. The paper's ``B_ar(TP)`` is a measured function that its text does not give.
"""

from dataclasses import dataclass
from functools import cached_property
from math import inf

from seesaw_core.layouts import Layout
from seesaw_core.planner.accelerators import Accelerator
from seesaw_core.planner.kernels.kernels import Kernels, kernels_of
from seesaw_core.planner.models import Model
from seesaw_core.planner.profiles import Profile
from seesaw_core.resharding.placement import split_layers
from seesaw_core.units import GIB

# A process's CUDA context and kernels. Source: 551 MB in aiconfigurator-core 0.12 (PyPI).
_WORKSPACE_BYTES = 0.5 * GIB
# Activations that one token holds at once, in widths of the model: input, residual, query, key,
# value and the attention's output. In widths of the MLP: gate, up and their product.
_HIDDEN_WIDTHS, _MLP_WIDTHS = 6, 3
_ENDLESS_TOKENS = 1 << 40  # where no layer of any stage keeps anything
_LOGIT_BYTES = 8  # in fp32, and once more as probabilities


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """The work of one step. Units: counts of tokens and requests.

    ``prefill_pairs`` counts the (query, key) pairs of the prefill tokens; a whole prompt of s
    tokens has ``s^2 / 2``. ``decode_context`` is the sum of the decoding requests' contexts.
    ``sampled`` counts the requests for which a token is sampled; None means all decoding ones.
    """

    prefill_tokens: int = 0
    prefill_pairs: float = 0.0
    decode_requests: int = 0
    decode_context: float = 0.0
    sampled: int | None = None


@dataclass(frozen=True)
class StepCosts:
    """Times and bytes of one data-parallel replica of ``model`` under ``layout``."""

    model: Model
    device: Accelerator
    layout: Layout
    profile: Profile

    @cached_property
    def kernels(self) -> Kernels:
        return kernels_of(self.model, self.device, self.layout, self.profile)

    # ---- time ----

    def step_s(self, batch: MicroBatch) -> float:
        """Seconds that the slowest pipeline stage needs for one micro-batch."""
        num_tokens = batch.prefill_tokens + batch.decode_requests
        if not num_tokens:
            return 0.0
        sampled = batch.decode_requests if batch.sampled is None else batch.sampled
        layer_s = (
            self.kernels.products_s(num_tokens)
            + self.kernels.prefill_attention_s(batch.prefill_tokens, batch.prefill_pairs)
            + self.kernels.decode_attention_s(batch.decode_requests, batch.decode_context)
            + self.model.num_all_reduces * self.kernels.all_reduce_s(num_tokens)
            + self.profile.layer_overhead_us * 1e-6
        )
        longest_s = self.num_layers * layer_s
        last_s = self._last_layers * layer_s + self.kernels.head_s(sampled)
        return max(longest_s, last_s) + self._send_s(num_tokens) + self._overhead_s(sampled)

    def prefill_s(self, num_tokens: int, pairs: float) -> float:
        """Seconds of a stage for a micro-batch of prefill tokens alone."""
        return self.step_s(MicroBatch(prefill_tokens=num_tokens, prefill_pairs=pairs, sampled=1))

    def transition_s(self) -> float:
        """Seconds of a transition to this layout: the copy of its weights, and a fixed overhead."""
        copy_s = self.weight_bytes / self._host_bytes_per_s
        return copy_s + self.profile.transition_overhead_ms * 1e-3

    def kv_copy_s(self, num_tokens: float) -> float:
        """Seconds to copy the KV of ``num_tokens`` between the devices and the host."""
        per_device = self.num_layers * self.kv_bytes_per_token_layer
        return num_tokens * per_device / self._host_bytes_per_s

    def _send_s(self, num_tokens: int) -> float:
        if self.layout.pipeline == 1:
            return 0.0
        num_bytes = num_tokens * self.model.hidden * self.model.dtype_bytes
        bandwidth = self.device.peer_link.bytes_per_s * self.profile.host_share
        return num_bytes / bandwidth + self.profile.send_latency_us * 1e-6

    def _overhead_s(self, sampled: int) -> float:
        profile = self.profile
        return profile.step_overhead_ms * 1e-3 + sampled * profile.request_overhead_us * 1e-6

    # ---- memory ----

    @cached_property
    def num_layers(self) -> int:
        """Layers of the largest pipeline stage."""
        return max(len(span) for span in self._stages)

    @cached_property
    def kv_bytes_per_token_layer(self) -> float:
        """Bytes that a mean layer keeps of one token on each device, windows left out.

        Heads are replicated if there are more ranks than heads.
        """
        return self.model.mean_layer(self.layout.tensor).kv_bytes_per_token

    @cached_property
    def weight_bytes(self) -> float:
        """Bytes of weights on the device that holds most."""
        return max(self._stage_weight_bytes(index) for index in range(len(self._stages)))

    def activation_bytes(self, num_tokens: int, num_requests: int) -> float:
        """Approximate bytes of a step's intermediate results, and of the process's own memory."""
        model, tensor = self.model, self.layout.tensor
        width = _HIDDEN_WIDTHS * model.hidden + _MLP_WIDTHS * model.mlp_width / tensor
        logits = num_requests * model.vocab / tensor * _LOGIT_BYTES
        return num_tokens * width * model.dtype_bytes + logits + _WORKSPACE_BYTES

    def kv_capacity_tokens(
        self,
        *,
        step_tokens: int,
        max_requests: int,
        weight_bytes: float | None = None,
        context: float = inf,
    ) -> int:
        """Tokens of KV that fit beside weights and activations; negative if those do not fit.

        Requests of ``context`` tokens each keep what the windows of their layers allow, and their
        state; without a bound all layers keep all tokens. ``weight_bytes`` replaces the layout's
        own shard where each device holds more than that.
        """
        usable = self.device.memory_bytes * self.profile.memory_utilisation
        usable -= self.activation_bytes(step_tokens, max_requests)
        rooms = []
        for index, span in enumerate(self._stages):
            held = weight_bytes or self._stage_weight_bytes(index)
            per_token = self._kept_per_token(span, context)
            if per_token or usable < held:
                rooms.append((usable - held) / (per_token or 1.0))
        return int(min(rooms, default=_ENDLESS_TOKENS))

    def _kept_per_token(self, span: range, context: float) -> float:
        """Bytes that the layers of a stage keep on each device for each token of a request."""
        model, tensor = self.model, self.layout.tensor
        total = 0.0
        for layer, number in model.layers(span):
            for cache in layer.caches:
                share = 1.0 if context == inf else cache.kept(context) * cache.ratio / context
                each = cache.entry_bytes(model.kv_bytes, tensor) / cache.ratio
                total += number * each * share
            if context < inf:
                total += number * layer.state_bytes(tensor) / context
        return total

    @cached_property
    def _stages(self) -> tuple[range, ...]:
        spans = split_layers(self.model.shape.num_layers, self.layout.pipeline)
        return tuple(range(span.start, span.stop) for span in spans)

    @property
    def _last_layers(self) -> int:
        return len(self._stages[-1])

    @property
    def _host_bytes_per_s(self) -> float:
        return self.device.host_link.bytes_per_s * self.profile.host_share

    def _stage_weight_bytes(self, index: int) -> float:
        model, tensor = self.model, self.layout.tensor
        layers = model.layers(self._stages[index])
        held = sum(number * layer.weight_bytes(tensor) for layer, number in layers)
        is_first, is_last = index == 0, index == len(self._stages) - 1
        if is_first:
            held += model.head_params * model.dtype_bytes / tensor
        if is_last and not (model.tied and is_first):
            held += model.head_weight_bytes / tensor
        return held


def prefill_pool_tokens(layout: Layout, longest: int, step_tokens: int) -> int:
    """Tokens of the prefill engine's own pool: its longest prompt, and the chunks in flight.

    Each pipeline stage computes a chunk while the scheduler prepares another.
    """
    return longest + step_tokens * (layout.pipeline + 1)
