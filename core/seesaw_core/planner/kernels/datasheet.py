"""Times of kernels from data sheets, of whose figures devices reach the shares of a profile."""

from dataclasses import dataclass
from functools import cached_property

from seesaw_core.layouts import Layout
from seesaw_core.planner.accelerators import Accelerator
from seesaw_core.planner.mean_layers import MeanLayer
from seesaw_core.planner.models import Arithmetic, Model
from seesaw_core.planner.profiles import Profile

# PCIe servers with eight devices have two sockets.
_DEVICES_PER_SOCKET = 4


@dataclass(frozen=True)
class DatasheetKernels:
    """Implements :class:`seesaw_core.planner.kernels.kernels.Kernels`.

    Matrix products are bound by reading weights or by arithmetic, prefill attention by arithmetic,
    decode attention by reading KV.

    Source: Su et al., Seesaw (arXiv 2503.06433), appendix A.
    Deviation: prefill attention is causal, ``2 b h_q s^2 d`` (the paper prints ``d^2``). A ring
    all-reduce moves ``2 (n - 1) / n`` of its bytes over each link, and over PCIe the traffic of all
    devices shares the host. The paper's ``B_ar(TP)`` is a measured function that its text does not
    give.
    """

    model: Model
    device: Accelerator
    layout: Layout
    profile: Profile

    def products_s(self, num_tokens: int) -> float:
        read_s = self._layer.read_bytes(num_tokens) / self._memory_bytes_per_s
        flops = self._layer.product_flops * num_tokens
        return self._overlapped(read_s, flops / (self.peak_flops * self.profile.compute_share))

    def head_s(self, sampled: int) -> float:
        model, tensor = self.model, self.layout.tensor
        if not sampled:
            return 0.0
        read_s = model.head_weight_bytes / tensor / self._memory_bytes_per_s
        flops = 2 * model.head_params * sampled / tensor
        compute_s = flops / (self.device.flops_16 * self.profile.compute_share)
        return self._overlapped(read_s, compute_s)

    def prefill_attention_s(self, num_tokens: int, pairs: float) -> float:
        flops = self._layer.prefill_flops(num_tokens, pairs)
        return flops / (self.device.flops_16 * self.profile.attention_share)

    def decode_attention_s(self, num_requests: int, context: float) -> float:
        flops = self._layer.decode_flops(num_requests, context)
        read = self._layer.decode_read_bytes(num_requests, context)
        reachable = self.device.flops_16 * self.profile.attention_share
        return max(read / self._memory_bytes_per_s, flops / reachable)

    def all_reduce_s(self, num_tokens: int) -> float:
        ranks = self.layout.tensor
        if ranks == 1:
            return 0.0
        link, profile = self.device.peer_link, self.profile
        is_pcie = link.kind == "pcie"
        share = profile.pcie_all_reduce_share if is_pcie else profile.nvlink_all_reduce_share
        num_bytes = num_tokens * self.model.hidden * self.model.dtype_bytes
        steps = 2 * (ranks - 1)
        moved_s = steps / ranks * num_bytes / (link.bytes_per_s * share)
        if is_pcie:  # all groups of ranks send at the same time, through the same host
            groups = self.layout.num_devices / ranks
            fabric = link.fabric_bytes_per_s or profile.pcie_fabric_links * link.bytes_per_s
            moved_s = max(moved_s, groups * steps * num_bytes / fabric)
        seconds = moved_s + steps * profile.all_reduce_latency_us * 1e-6
        crosses = is_pcie and ranks > _DEVICES_PER_SOCKET
        return seconds * profile.cross_socket_slowdown if crosses else seconds

    @property
    def _memory_bytes_per_s(self) -> float:
        return self.device.memory_bytes_per_s * self.profile.memory_share

    @cached_property
    def _layer(self) -> MeanLayer:
        return self.model.mean_layer(self.layout.tensor)

    @cached_property
    def peak_flops(self) -> float:
        """Peak rate of the layers' products. Without such units, vLLM widens weights to 16 bits."""
        device = self.device
        match self.model.arithmetic:
            case Arithmetic.INT8:
                return device.flops_8
            case Arithmetic.FP8 if device.has_fp8:
                return device.flops_8
            case Arithmetic.FP4 if device.flops_4 is not None:
                return device.flops_4
            case _:
                return device.flops_16

    def _overlapped(self, one_s: float, other_s: float) -> float:
        """Seconds of two activities that overlap: a smooth roofline."""
        longer_s, shorter_s = max(one_s, other_s), min(one_s, other_s)
        if not longer_s:  # layers without matrices
            return 0.0
        power = self.profile.roofline_power
        added: float = (1 + (shorter_s / longer_s) ** power) ** (1 / power)
        return longer_s * added
