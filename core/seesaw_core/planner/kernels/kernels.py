"""What the cost model asks of kernels, and which kernels answer."""

from typing import Protocol

from seesaw_core.layouts import Layout
from seesaw_core.planner.accelerators import Accelerator
from seesaw_core.planner.kernels.datasheet import DatasheetKernels
from seesaw_core.planner.kernels.measured import MeasuredKernels
from seesaw_core.planner.kernels.tables import kernel_tables
from seesaw_core.planner.models import Model
from seesaw_core.planner.profiles import Profile


class Kernels(Protocol):
    """Seconds on each device of one model under one layout, of one layer unless said otherwise."""

    def products_s(self, num_tokens: int) -> float:
        """Return the time of all matrix products but attention's."""

    def head_s(self, sampled: int) -> float:
        """Return the time of the whole output head for so many tokens."""

    def prefill_attention_s(self, num_tokens: int, pairs: float) -> float:
        """Return the time of ``num_tokens`` prefill tokens with so many (query, key) pairs."""

    def decode_attention_s(self, num_requests: int, context: float) -> float:
        """Return the time of decoding requests with so many tokens of KV in sum."""

    def all_reduce_s(self, num_tokens: int) -> float:
        """Return the time of one all-reduce of so many tokens' hidden states."""


def kernels_of(model: Model, device: Accelerator, layout: Layout, profile: Profile) -> Kernels:
    """Return measured kernels if the profile wants them and there are some."""
    sheet = DatasheetKernels(model, device, layout, profile)
    tables = kernel_tables(device.name) if profile.measured_kernels else None
    return sheet if tables is None else MeasuredKernels(tables, sheet)
