"""What a worker is told about choosing its layouts."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Parallelism(StrEnum):
    """Who chooses the layouts."""

    AUTO = "auto"
    MANUAL = "manual"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planning:
    """Whether the worker plans, and for what. Units: tokens, counts.

    ``accelerator`` and ``num_devices`` None are those that the worker finds. ``profile`` is what
    `seesaw calibrate` wrote, ``accelerators`` a TOML file of the user's own.
    """

    parallelism: Parallelism = Parallelism.MANUAL
    accelerator: str | None = None
    accelerators: Path | None = None
    num_devices: int | None = None
    prompt_tokens: int = 1000
    output_tokens: int = 250
    concurrency: int | None = None
    profile: Path | None = None
