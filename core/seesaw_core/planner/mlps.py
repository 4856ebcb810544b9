"""Builds the MLPs of layers: dense ones and mixtures of experts."""

from dataclasses import dataclass

from seesaw_core.planner.layers import Product, Split

_DENSE = ("mlp", "mixer", "ffn")
_MIXED = ("mlp", "block_sparse_moe", "feed_forward", "mixer", "ffn", "moe")
_SHARED = ("shared_expert", "shared_experts", "shared_mlp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """A mixture of experts. ``layers`` are the numbers of the layers that have one.

    ``shared_intermediate`` is the width of all shared experts together. With ``latent`` the routed
    experts work on so many elements, between two further matrices.
    """

    count: int
    per_token: int
    intermediate: int
    shared_intermediate: int
    layers: frozenset[int]
    latent: int | None = None
    has_shared_gate: bool = False


def dense_mlp(hidden: int, intermediate: int, num_matrices: int = 3) -> tuple[Product, ...]:
    """An MLP of three matrices, of which one is a gate, or of two."""
    return _mlp(hidden, intermediate, num_matrices, _DENSE)


def experts_mlp(
    hidden: int, e: Experts, num_matrices: int = 3, *, beside_dense: bool = False
) -> tuple[Product, ...]:
    """Routed and shared experts, and the router. ``beside_dense`` only sets their names."""
    width = e.latent or hidden
    routed_names = tuple(f"{block}.experts.0" for block in _MIXED)
    router = tuple(f"{block}.{name}" for block in _MIXED for name in ("gate", "router"))
    if beside_dense:  # as in Gemma 4, whose dense MLP is called mlp
        routed_names, router = ("experts.0",), ("router.proj",)
    products = [*_mlp(width, e.intermediate, num_matrices, routed_names, e)]
    products.append(Product(names=router, inputs=hidden, outputs=e.count, split=Split.NONE))
    if e.latent:
        into = ("mixer.fc1_latent_proj", "mlp.routed_expert_down_proj")
        back = ("mixer.fc2_latent_proj", "mlp.routed_expert_up_proj")
        none = Split.NONE
        products += [
            Product(names=into, inputs=hidden, outputs=e.latent, split=none),
            Product(names=back, inputs=e.latent, outputs=hidden, split=none),
        ]
    if e.shared_intermediate:
        shared = tuple(f"{block}.{name}" for block in _MIXED for name in _SHARED)
        products += _mlp(hidden, e.shared_intermediate, num_matrices, shared)
    if e.has_shared_gate:
        names = ("mlp.shared_expert_gate",)
        products.append(Product(names=names, inputs=hidden, outputs=1, split=Split.NONE))
    return tuple(products)


def _mlp(
    hidden: int,
    intermediate: int,
    num_matrices: int,
    blocks: tuple[str, ...],
    experts: Experts | None = None,
) -> tuple[Product, ...]:
    def matrix(inputs: int, outputs: int, split: Split, *names: str) -> Product:
        return Product(
            names=tuple(f"{block}.{name}" for block in blocks for name in names),
            inputs=inputs,
            outputs=outputs,
            split=split,
            fused="gate_up_proj" if split is Split.COLUMNS and num_matrices == 3 else "",
            copies=1 if experts is None else experts.count,
            per_token=1 if experts is None else experts.per_token,
        )

    gate = matrix(hidden, intermediate, Split.COLUMNS, "gate_proj", "gate_up_proj", "w1")
    up = matrix(hidden, intermediate, Split.COLUMNS, "up_proj", "gate_up_proj", "w3")
    down = matrix(intermediate, hidden, Split.ROWS, "down_proj", "w2")
    return (gate, up, down) if num_matrices == 3 else (up, down)
