"""What plain vLLM answers, which re-sharded answers are held against."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from seesaw_core.layouts import Layout
from seesaw_worker.modes.static.reference import Job, Sample, plain_environment


def plain_tokens(
    model: Path, layout: Layout, samples: list[Sample], engine: dict[str, Any], folder: Path
) -> list[list[int]]:
    """The tokens of each sample, from an engine that is ended again.

    Prompts are prefilled whole: in chunks, plain vLLM's CPU engine dies on seeded ones.
    """
    job = Job(
        model=str(model),
        tensor=layout.tensor,
        pipeline=layout.pipeline,
        output=str(folder / "plain.json"),
        samples=samples,
        engine=engine
        | {
            "enforce_eager": True,
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": engine["max_model_len"],
        },
    )
    job.write(folder / "job.json")
    with (folder / "plain.log").open("wb") as log:
        ended = subprocess.run(
            [
                sys.executable,
                "-m",
                "seesaw_worker.modes.static.reference",
                str(folder / "job.json"),
            ],
            env=plain_environment(layout),
            stdout=log,
            stderr=log,
            check=False,
        )
    assert ended.returncode == 0, (folder / "plain.log").read_text()[-4000:]
    outputs = json.loads((folder / "plain.json").read_text())["tokens"]
    return [choices[0] for choices in outputs]
