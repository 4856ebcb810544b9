"""Our split of layers into stages is vLLM's own."""

import pytest
from vllm.distributed.utils import get_pp_indices

from seesaw_core.resharding.placement import split_layers


@pytest.mark.parametrize("pipeline", range(1, 17))
def test_layers_are_split_as_vllm_splits_them(
    pipeline: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VLLM_PP_LAYER_PARTITION", raising=False)
    for num_layers in range(pipeline, 97):
        spans = split_layers(num_layers, pipeline)
        expected = [get_pp_indices(num_layers, rank, pipeline) for rank in range(pipeline)]
        assert [(span.start, span.stop) for span in spans] == expected
