"""``--reshard never`` on CPU ranks: plain vLLM, each rank on cores of its own."""

import os
from pathlib import Path

import openai
import psutil
import pytest

from seesaw_cli.serve.local import LocalWorker

pytestmark = pytest.mark.engine

FLAGS = (
    "--reshard=never",
    "--dtype=float32",
    "--enforce-eager",
    "--max-model-len=256",
    "--kv-cache-memory-bytes=67108864",
    "--generation-config=vllm",
)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two processor cores")
@pytest.mark.parametrize("layout", ["tensor", "pipeline"])
def test_ranks_of_plain_vllm_do_not_share_cores(
    layout: str, tiny_model: Path, tmp_path: Path
) -> None:
    """Else those of a tensor-parallel engine wait for each other, thirty times as long."""
    flags = [*FLAGS, f"--decode-{layout}-parallel-size=2"]
    with LocalWorker(tiny_model, flags, log=tmp_path / "worker.log") as worker:
        client = openai.OpenAI(base_url=f"{worker.url}/v1", api_key="none")
        answer = client.completions.create(
            model=worker.model, prompt=[11, 12, 13], max_tokens=4, extra_body={"ignore_eos": True}
        )
        below = psutil.Process(worker.process.pid).children(recursive=True)
        ranks = [p for p in below if "Worker" in p.name() or "Worker" in " ".join(p.cmdline())]
        cores = [set(p.cpu_affinity() or ()) for p in ranks]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 4
    assert len(cores) == 2
    assert not cores[0] & cores[1]
