"""What the readers of all families share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from seesaw_core.errors import ModelError
from seesaw_core.planner.layers import Layer, Product
from seesaw_core.planner.mixers import Heads
from seesaw_core.planner.mlps import Experts, dense_mlp, experts_mlp
from seesaw_core.planner.model_fields import Fields

Kind = TypeVar("Kind")

_INTERMEDIATE = ("intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim")
# Of dense layers, where intermediate_size is that of experts.
_DENSE_INTERMEDIATE = ("intermediate_size_mlp", "dense_intermediate_size")


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What all families read alike. ``usual_intermediate`` is the width of an MLP if not given."""

    num_layers: int
    hidden: int
    heads: Heads
    experts: Experts | None
    mlp_matrices: int
    usual_intermediate: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A model's layers, its attention heads, and further heads that tensor ranks must divide."""

    layers: list[Layer]
    heads: Heads
    other_heads: tuple[int, ...] = ()


class Mlps:
    """The MLPs of a model's layers. A dense width is asked for where a layer is dense."""

    def __init__(self, fields: Fields, basis: Basis) -> None:
        self._fields, self._basis = fields, basis
        fields.optional(*_DENSE_INTERMEDIATE, *_INTERMEDIATE)

    def of(self, layer: int) -> tuple[Product, ...]:
        experts = self._basis.experts
        if experts is not None and layer in experts.layers:
            return experts_mlp(self._basis.hidden, experts, self._basis.mlp_matrices)
        return self.dense()

    def dense(self) -> tuple[Product, ...]:
        names = next(((n,) for n in _DENSE_INTERMEDIATE if n in self._fields), _INTERMEDIATE)
        width = self._fields.count(*names, default=self._basis.usual_intermediate)
        return dense_mlp(self._basis.hidden, width, self._basis.mlp_matrices)


def by_name(field: str, names: Sequence[str], kinds: Mapping[str, Kind]) -> list[Kind]:
    """Look up each name. Raises: ModelError for one that is not known."""
    unknown = next((name for name in names if name not in kinds), None)
    if unknown is not None:
        raise ModelError(
            f"config.json: {field}={unknown[:40]!r} is not described for this model; described are "
            f"{', '.join(kinds)}"
        )
    return [kinds[name] for name in names]
