"""Settings for a worker that chooses its layouts."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Parallelism(StrEnum):
    """Who chooses the layouts."""

    AUTO = "auto"
    MANUAL = "manual"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planning:
    """Whether the worker plans, and for which devices and workload. Units: tokens, counts.

    ``accelerator`` and ``num_devices`` are those of the machine if they are None. ``profile`` is a
    file of ``seesaw calibrate``, ``accelerators`` a TOML file of the user's.
    """

    parallelism: Parallelism = Parallelism.MANUAL
    accelerator: str | None = None
    accelerators: Path | None = None
    num_devices: int | None = None
    prompt_tokens: int = 1000
    output_tokens: int = 250
    concurrency: int | None = None
    profile: Path | None = None
