"""How many weight bytes each rank holds, and how large an arena must be."""

import pytest

from seesaw_core.layouts import Layout, ModelShape
from seesaw_core.resharding.weights import TensorInfo, arena_bytes, shard_weights

SHAPE = ModelShape(num_layers=4, num_heads=8, num_kv_heads=2, head_dim=16)


def tensor(name: str, num_bytes: int, num_dims: int = 2) -> TensorInfo:
    return TensorInfo(name=name, num_dims=num_dims, num_bytes=num_bytes)


HEAD = tensor("lm_head.weight", 0)


def held(name: str, layout: Layout, num_dims: int = 2) -> list[int]:
    """Bytes on each rank of one tensor of 960 bytes, in a model whose head is not tied."""
    return list(shard_weights([tensor(name, 960, num_dims), HEAD], layout, SHAPE))


@pytest.mark.parametrize(
    ("name", "num_dims", "layout", "expected"),
    [
        pytest.param("model.layers.0.mlp.up_proj.weight", 2, Layout(tensor=4), [240] * 4,
                     id="matrices are divided"),
        pytest.param("model.layers.0.input_layernorm.weight", 1, Layout(tensor=4), [960] * 4,
                     id="vectors are replicated"),
        pytest.param("model.layers.0.mlp.gate.weight", 2, Layout(tensor=4), [960] * 4,
                     id="a router is replicated"),
        pytest.param("model.layers.0.self_attn.k_proj.weight", 2, Layout(tensor=4), [480] * 4,
                     id="keys are replicated where there are fewer KV heads than ranks"),
        pytest.param("model.layers.0.self_attn.v_proj.weight", 2, Layout(tensor=2), [480] * 2,
                     id="values are divided where there are enough KV heads"),
        pytest.param("model.layers.0.self_attn.qkv_proj.weight", 2, Layout(tensor=4), [320] * 4,
                     id="of a fused projection only queries are divided further"),
        pytest.param("model.layers.3.mlp.up_proj.weight", 2, Layout(pipeline=2), [0, 960],
                     id="a layer lies on its own stage"),
        pytest.param("transformer.h.1.mlp.up.weight", 2, Layout(pipeline=2), [960, 0],
                     id="layers may be called h"),
        pytest.param("model.embed_tokens.weight", 2, Layout(pipeline=2), [960, 0],
                     id="embeddings lie on the first stage"),
        pytest.param("lm_head.weight", 2, Layout(pipeline=2), [0, 960],
                     id="the output head lies on the last stage"),
        pytest.param("model.norm.weight", 1, Layout(pipeline=2, tensor=2), [0, 0, 960, 960],
                     id="the final norm lies on the last stage"),
        pytest.param("model.layers.0.mlp.up_proj.weight", 2, Layout(data=2, tensor=2), [480] * 4,
                     id="data-parallel replicas hold the same"),
    ],
)  # fmt: skip
def test_each_rank_holds_its_share(
    name: str, num_dims: int, layout: Layout, expected: list[int]
) -> None:
    assert held(name, layout, num_dims) == expected


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        pytest.param(Layout(), [1920], id="one stage makes both"),
        pytest.param(Layout(pipeline=2), [960, 1920], id="the last stage makes both as well"),
        pytest.param(Layout(tensor=2), [960, 960], id="both are divided"),
    ],
)
def test_a_tied_head_is_counted_where_vllm_makes_it(layout: Layout, expected: list[int]) -> None:
    shards = shard_weights([tensor("model.embed_tokens.weight", 960)], layout, SHAPE)
    assert list(shards) == expected


def test_an_arena_takes_the_larger_of_its_two_shards() -> None:
    tensors = (
        tensor("model.embed_tokens.weight", 600),
        tensor("model.layers.0.mlp.up_proj.weight", 100),
        tensor("lm_head.weight", 200),
    )
    # P2 holds 700 and 200, T2 holds 450 and 450; a generator is read once only.
    assert arena_bytes((t for t in tensors), Layout(pipeline=2), Layout(tensor=2), SHAPE) == (
        700,
        450,
    )


def test_bytes_are_rounded_up() -> None:
    shards = shard_weights([tensor("lm_head.weight", 7)], Layout(tensor=4), SHAPE)
    assert shards == (2, 2, 2, 2)
