"""Reads mixtures of experts from configs: how many experts, how wide, in which layers."""

from seesaw_core.errors import ModelError
from seesaw_core.planner.mlps import Experts
from seesaw_core.planner.model_fields import Fields, refuse_wrong_length

_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
_PER_TOKEN = (
    *("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts"),
)
_WIDTH = ("moe_intermediate_size", "expert_intermediate_size", "expert_ffn_hidden_size")
_SHARED = (*("shared_expert_intermediate_size", "shared_intermediate_size", "share_expert_dim"),)
_LATENT = ("moe_latent_size", "routed_expert_hidden_size")  # Nemotron 3, Kimi K3
_GATED_SHARED = "shared_expert_intermediate_size"  # Qwen's shared expert has a gate of its own
_SHARED_WIDTH = "moe_shared_expert_intermediate_size"
_SHARED_EXPERTS = ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts")
_HUNYUAN = "num_shared_expert"  # each as wide as the dense MLP
_EVERY = ("decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_interval")
_FREQUENCY = ("moe_layer_freq", "moe_layer_frequency")
_DENSE_FIRST = ("first_k_dense_replace", "moe_layer_start_index", "num_dense_layers")


def read_experts(fields: Fields, num_layers: int) -> Experts | None:
    """Return a model's experts, or None for a dense model. Raises: ModelError."""
    given = fields.optional(*_EXPERTS)
    if isinstance(given, list):
        given = max(given, default=None)
    if given in (None, 0, 1):
        return None
    count, per_token = fields.count(*_EXPERTS), fields.count(*_PER_TOKEN)
    if per_token > count:
        raise ModelError(
            f"config.json: num_experts_per_tok={per_token} must be at most the {count} experts"
        )
    width = fields.count(*_WIDTH, "intermediate_size", "ffn_hidden_size")
    latent = fields.count(*_LATENT, default=0, least=0)
    return Experts(
        count=count,
        per_token=per_token,
        intermediate=width,
        shared_intermediate=_shared(fields, width),
        layers=_mixed_layers(fields, num_layers),
        latent=latent or None,
        has_shared_gate=bool(fields.optional(_GATED_SHARED)),
    )


def names_of_experts() -> str:
    return f"{', '.join(_EXPERTS)} and {_PER_TOKEN[0]}"


def _shared(fields: Fields, width: int) -> int:
    """Width of all shared experts of a layer together."""
    if whole := fields.count(*_SHARED, default=0, least=0):
        fields.optional(*_SHARED_EXPERTS)  # they share that width
        return whole
    if fields.optional("use_mixed_mlp_moe") or _HUNYUAN in fields:
        wide = fields.count("intermediate_size", default=width)
        return wide * fields.count(_HUNYUAN, default=1, least=0)
    alike = 1 if "interleave_moe_layer_step" in fields else 0  # Llama 4 has one and no field for it
    each = fields.count(_SHARED_WIDTH, default=width)
    return each * fields.count(*_SHARED_EXPERTS, default=alike, least=0)


def _mixed_layers(fields: Fields, num_layers: int) -> frozenset[int]:
    """Return the layers that have experts; the others are dense."""
    every = fields.count(*_EVERY, default=1)
    switched = fields.optional(*_FREQUENCY)
    dense = set(fields.counts("mlp_only_layers"))
    dense |= set(range(fields.count(*_DENSE_FIRST, default=0, least=0)))
    last = fields.optional("moe_layer_end_index")
    if isinstance(last, int) and 0 <= last < num_layers:
        dense |= set(range(last + 1, num_layers))
    if isinstance(switched, list):  # one switch per layer
        if len(switched) < num_layers or any(s not in (0, 1) for s in switched):
            raise ModelError(
                f"config.json: {_FREQUENCY[0]}={str(switched)[:60]} must have a 0 or a 1 for each "
                f"of the {num_layers} layers"
            )
        dense |= {layer for layer in range(num_layers) if not switched[layer]}
    elif switched is not None:
        every = fields.count(*_FREQUENCY)
    named = fields.strings("mlp_layer_types")  # one name per layer
    if named:
        refuse_wrong_length("mlp_layer_types", named, num_layers)
        dense |= {layer for layer, kind in enumerate(named) if kind != "sparse"}
    layers = range(num_layers)
    return frozenset(n for n in layers if (n + 1) % every == 0 and n not in dense)
