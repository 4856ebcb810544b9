"""Times of kernels as measured on an accelerator; what was not measured is taken from data sheets.

Benchmarks run one kernel again and again, so a small matrix or a little KV stays in the device's
cache, which a model's other layers would have emptied. So no kernel is faster than its bytes can be
read from memory.
"""

from dataclasses import dataclass
from functools import cached_property

from seesaw_core.planner.kernels.datasheet import DatasheetKernels
from seesaw_core.planner.kernels.grids import Curve, Grid
from seesaw_core.planner.kernels.tables import KernelTables
from seesaw_core.planner.layers import Layer, Split
from seesaw_core.planner.models import Arithmetic

_HEAD_SIZE = 128  # of the tables
# Tables by arithmetic and the bytes of a weight; NVFP4 has a scale of a byte for 16 weights.
_FORMATS = {
    (Arithmetic.WIDE, 2.0): "bfloat16",
    (Arithmetic.FP8, 1.0): "fp8",
    (Arithmetic.FP4, 0.6): "nvfp4",
}
_NORM_PASSES = 4  # reads the input and the residual, writes the sum and its norm


@dataclass(frozen=True)
class MeasuredKernels:
    """Implements :class:`seesaw_core.planner.kernels.kernels.Kernels`."""

    tables: KernelTables
    sheet: DatasheetKernels

    @property
    def has_model(self) -> bool:
        """Whether the model's own layers were measured; else parts of it are from data sheets."""
        return self._layer is not None

    def products_s(self, num_tokens: int) -> float:
        curve = self._layer
        if curve is None:
            return self.sheet.products_s(num_tokens)
        sustained_s = num_tokens * self._sustained_s
        return max(curve.at(num_tokens), sustained_s) + num_tokens * self._between_s

    def head_s(self, sampled: int) -> float:
        if not sampled:
            return 0.0
        return self._head.at(sampled)

    def prefill_attention_s(self, num_tokens: int, pairs: float) -> float:
        """Prompts are taken as equally long as their pairs tell: of s tokens, s^2 / 2."""
        if not pairs:
            return 0.0
        grid = self.tables.prefill_attention.get(self._kv_format)
        if grid is None or not self.sheet.model.is_plain:
            return self.sheet.prefill_attention_s(num_tokens, pairs)
        length = 2 * pairs / num_tokens
        shape = self.sheet.model.shape
        seconds = grid.at(shape.num_heads / self.sheet.layout.tensor, length)
        return seconds * num_tokens / length * shape.head_dim / _HEAD_SIZE

    def decode_attention_s(self, num_requests: int, context: float) -> float:
        if not num_requests or not context:
            return 0.0
        grid = self._decode
        if grid is None or not self.sheet.model.is_plain:
            return self.sheet.decode_attention_s(num_requests, context)
        shape = self.sheet.model.shape
        heads = num_requests * max(1.0, shape.num_kv_heads / self.sheet.layout.tensor)
        beyond = max(1.0, heads / grid.outer[-1])  # so many times as much KV takes as much longer
        width = max(1.0, shape.head_dim / _HEAD_SIZE)
        measured_s = beyond * width * grid.at(heads / beyond, context / num_requests)
        return max(measured_s, self.sheet.decode_attention_s(num_requests, context))

    def all_reduce_s(self, num_tokens: int) -> float:
        ranks = self.sheet.layout.tensor
        curve = self.tables.all_reduce.get(ranks)
        if curve is None or self.sheet.device.peer_link.kind == "pcie":
            return self.sheet.all_reduce_s(num_tokens)  # PCIe servers differ by more than ten times
        model = self.sheet.model
        return curve.at(num_tokens * model.hidden * model.dtype_bytes)

    @cached_property
    def _decode(self) -> Grid | None:
        """Decode attention as measured, but nowhere faster than its KV is read from memory."""
        grid = self.tables.decode_attention.get(self._kv_format)
        if grid is None:
            return None
        entry_bytes = 2 * _HEAD_SIZE * self.sheet.model.kv_bytes
        read_s = entry_bytes / self._memory_bytes_per_s
        seconds = tuple(
            tuple(
                max(s, heads * length * read_s) for length, s in zip(grid.inner, row, strict=True)
            )
            for heads, row in zip(grid.outer, grid.seconds, strict=True)
        )
        return Grid(grid.outer, grid.inner, seconds)

    @cached_property
    def _kv_format(self) -> str:
        return "fp8" if self.sheet.model.kv_bytes == 1 else "bfloat16"

    @property
    def _memory_bytes_per_s(self) -> float:
        return self.sheet.device.memory_bytes_per_s * self.sheet.profile.memory_share

    @cached_property
    def _layer(self) -> Curve | None:
        """Seconds of a layer's products by tokens; None if its number format was not measured."""
        model, tensor = self.sheet.model, self.sheet.layout.tensor
        dtype = _FORMATS.get((model.arithmetic, round(model.weight_bytes, 1)))
        if self._plain is None or dtype is None or dtype not in self.tables.products:
            return None
        products = _on_rank(self._plain, tensor)
        return self._curve(dtype, products, model.weight_bytes)

    @cached_property
    def _plain(self) -> Layer | None:
        """The model's layer, if all are equal, with softmax attention and a dense MLP."""
        model = self.sheet.model
        is_uniform = len(model.kinds) == 1 and model.is_plain and not model.has_experts
        return model.kinds[0] if is_uniform else None

    @cached_property
    def _sustained_s(self) -> float:
        """Seconds per token at the rate that devices sustain when they compute all the time."""
        sheet = self.sheet
        flops = 2 * sheet.model.params_per_token / sheet.layout.tensor
        return flops / (sheet.peak_flops * sheet.profile.sustained_share)

    @cached_property
    def _between_s(self) -> float:
        """Seconds per token of the kernels between the products: norms, positions, activation.

        Each reads its inputs from memory and writes its results there.
        """
        model, tensor = self.sheet.model, self.sheet.layout.tensor
        shape = model.shape
        assert self._plain is not None
        narrow = 1.5 if model.arithmetic is not Arithmetic.WIDE else 0.0  # reads 2 bytes, writes 1
        queries = shape.num_heads * shape.head_dim / tensor
        keys = max(1.0, shape.num_kv_heads / tensor) * shape.head_dim
        elements = (
            2 * (_NORM_PASSES + narrow) * model.hidden
            + 2 * (queries + keys)
            + narrow * queries
            + (len(self._plain.mlp) + narrow) * model.mlp_width / tensor
        )
        share = self.sheet.profile.elementwise_share
        return share * elements * model.dtype_bytes / self._memory_bytes_per_s

    @cached_property
    def _head(self) -> Curve:
        model = self.sheet.model
        products = ((model.vocab / self.sheet.layout.tensor, float(model.hidden)),)
        return self._curve("bfloat16", products, model.dtype_bytes)

    def _curve(
        self, dtype: str, products: tuple[tuple[float, float], ...], element_bytes: float
    ) -> Curve:
        """Return the sum of products [outputs, inputs] by tokens."""
        read_s = element_bytes / self._memory_bytes_per_s
        grids = self.tables.products[dtype]
        seconds = tuple(
            sum(max(grid.at(n, k), n * k * read_s) for n, k in products) for grid in grids
        )
        return Curve(self.tables.tokens, seconds)


def _on_rank(layer: Layer, tensor: int) -> tuple[tuple[float, float], ...]:
    """Return a layer's products [outputs, inputs] on each rank, fused as vLLM fuses them."""
    outputs: dict[tuple[str, float], float] = {}
    for p in layer.products:
        share = p.on_rank(tensor)
        inputs = p.inputs * (share if p.split is Split.ROWS else 1.0)
        key = (p.fused or p.names[0], inputs)
        outputs[key] = outputs.get(key, 0.0) + p.outputs * (1.0 if p.split is Split.ROWS else share)
    return tuple((n, inputs) for (_, inputs), n in outputs.items())
