"""Layouts: how a model is spread over devices, and which layouts a model allows."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from seesaw_core.errors import LayoutError

_NAMED = re.compile(r"(?:D([0-9]{1,6}))?(?:T([0-9]{1,6}))?(?:P([0-9]{1,6}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """The dimensions of a model that limit its layouts.

    Units: counts; ``head_dim`` in elements. ``other_heads`` are those of further kinds of layers,
    such as linear attention, which tensor-parallel ranks must divide as well.
    """

    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    other_heads: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Coordinate:
    """The position of one rank in a layout."""

    data: int
    pipeline: int
    tensor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One way to spread a model over ``data * tensor * pipeline`` devices.

    Rank order is that of vLLM: data-major, then pipeline, then tensor, so
    ``rank = (data_rank * pipeline + pipeline_rank) * tensor + tensor_rank``.

    Raises: LayoutError if a degree is below 1.
    """

    data: int = 1
    tensor: int = 1
    pipeline: int = 1

    def __post_init__(self) -> None:
        for name in ("data", "tensor", "pipeline"):
            degree = getattr(self, name)
            if degree < 1:
                raise LayoutError(f"{name} parallel size must be at least 1, got {degree}")

    def __str__(self) -> str:
        named = (("D", self.data), ("T", self.tensor), ("P", self.pipeline))
        return "".join(f"{letter}{n}" for letter, n in named if n > 1) or "T1"

    @property
    def num_devices(self) -> int:
        return self.data * self.tensor * self.pipeline

    def coordinate(self, rank: int) -> Coordinate:
        """Return the position of ``rank``. Raises: LayoutError if the layout has no such rank."""
        if not 0 <= rank < self.num_devices:
            raise LayoutError(f"layout {self} has ranks 0..{self.num_devices - 1}, not {rank}")
        rest, tensor = divmod(rank, self.tensor)
        data, pipeline = divmod(rest, self.pipeline)
        return Coordinate(data=data, pipeline=pipeline, tensor=tensor)

    def ranks(self) -> Iterator[tuple[int, Coordinate]]:
        for rank in range(self.num_devices):
            yield rank, self.coordinate(rank)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutPair:
    """The layouts of one worker, equal if it never re-shards. Printed as ``P8→T4P2``, or ``T4``."""

    prefill: Layout
    decode: Layout

    @classmethod
    def static(cls, layout: Layout) -> "LayoutPair":
        return cls(prefill=layout, decode=layout)

    @property
    def is_static(self) -> bool:
        return self.prefill == self.decode

    def __str__(self) -> str:
        return str(self.decode) if self.is_static else f"{self.prefill}→{self.decode}"


def parse_layout(text: str) -> Layout:
    """Read a layout in its printed form: ``T4``, ``P8``, ``D2T2P2``. Raises: LayoutError."""
    match = _NAMED.fullmatch(text.strip().upper())
    if not text.strip() or match is None:
        raise LayoutError(
            f"layout {text!r} is not understood; write D, T and P with their sizes, such as T4, "
            "P8 or D2T2P2"
        )
    data, tensor, pipeline = (int(size) if size else 1 for size in match.groups())
    return Layout(data=data, tensor=tensor, pipeline=pipeline)


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """Why a model does not allow a layout. ``dimension`` is ``tensor`` or ``pipeline``."""

    dimension: str
    size: int
    reason: str
    hint: str


def misfit(layout: Layout, shape: ModelShape) -> Misfit | None:
    """Return why the model does not allow the layout, or None if it does."""
    tensor, pipeline = layout.tensor, layout.pipeline
    kv = shape.num_kv_heads
    others = shape.other_heads
    fits = [
        t
        for t in divisors(shape.num_heads)
        if not max(kv, t) % min(kv, t) and not any(heads % t for heads in others)
    ]
    reason = None
    undivided = next((heads for heads in others if heads % tensor), None)
    if shape.num_heads % tensor:
        reason = f"the model's {shape.num_heads} attention heads are not divisible by {tensor}"
    elif max(kv, tensor) % min(kv, tensor):
        reason = (
            f"the model's {kv} KV heads can neither be divided among nor replicated over "
            f"{tensor} ranks"
        )
    elif undivided is not None:
        reason = f"the model's {undivided} heads of another kind are not divisible by {tensor}"
    if reason is not None:
        return Misfit(
            dimension="tensor", size=tensor, reason=reason, hint=f"sizes that fit: {fits}"
        )
    if pipeline > shape.num_layers:
        return Misfit(
            dimension="pipeline",
            size=pipeline,
            reason=f"the model has only {shape.num_layers} layers",
            hint=f"use at most {shape.num_layers}",
        )
    return None


def check_layout(layout: Layout, shape: ModelShape, *, flag: str) -> None:
    """Refuse a layout that the model does not allow, naming ``flag`` and sizes that fit.

    ``flag`` is the prefix of the flags that set the layout, such as ``--prefill``.
    Raises: LayoutError.
    """
    unfit = misfit(layout, shape)
    if unfit is not None:
        raise LayoutError(
            f"{flag}-{unfit.dimension}-parallel-size={unfit.size}: {unfit.reason}; {unfit.hint}"
        )


def check_pair(prefill: Layout, decode: Layout, shape: ModelShape) -> None:
    """Refuse a prefill/decode pair that cannot share the same devices.

    Source: Su et al., Seesaw (arXiv 2503.06433), section 4: data parallelism is never switched.
    Raises: LayoutError.
    """
    check_layout(decode, shape, flag="--decode")  # first: the prefill layout may follow from it
    check_layout(prefill, shape, flag="--prefill")
    if prefill.data != decode.data:
        raise LayoutError(
            f"prefill layout {prefill} and decode layout {decode} differ in data parallelism, "
            "which re-sharding never changes; give both the same"
        )
    if prefill.num_devices != decode.num_devices:
        raise LayoutError(
            f"prefill layout {prefill} uses {prefill.num_devices} devices and decode layout "
            f"{decode} uses {decode.num_devices}; both phases run on the same devices, so "
            "tensor x pipeline parallel size must be equal"
        )


def divisors(n: int) -> list[int]:
    """Return the divisors of ``n`` in ascending order. Requires: ``n`` is at least 1."""
    return [d for d in range(1, n + 1) if n % d == 0]
