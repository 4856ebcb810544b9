"""What a run checks: its options, and the steps that follow from them, each with its bound."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from seesaw_core.layouts import LayoutPair, parse_layout


def parse_pair(text: str) -> LayoutPair:
    """A prefill and a decode layout, written ``P2-T2``. Raises: LayoutError."""
    prefill, dash, decode = text.partition("-")
    first = parse_layout(prefill)
    return LayoutPair(prefill=first, decode=parse_layout(decode) if dash else first)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """One run. ``gpus``: how many there are; 0 on the CPU. ``dtypes`` as vLLM names them."""

    device: str
    gpus: int
    layouts: tuple[str, ...]
    dtypes: tuple[str, ...]
    runner: str
    num_samples: int
    large: bool

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> "Options":
        fields = json.loads(path.read_text())
        return cls(**fields | {name: tuple(fields[name]) for name in ("layouts", "dtypes")})

    @property
    def modes(self) -> tuple[str, ...]:
        """Eager everywhere; decode in CUDA graphs where there are any."""
        return ("eager", "graphs") if self.gpus else ("eager",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """``name`` is ``kind`` or ``kind:argument:…``; it is ended after ``limit_s``."""

    name: str
    limit_s: float

    @property
    def kind(self) -> str:
        return self.name.partition(":")[0]

    @property
    def arguments(self) -> Sequence[str]:
        return self.name.split(":")[1:]


def steps_of(options: Options) -> list[Step]:
    """In the order in which a failure tells most."""
    steps = [Step(name="versions", limit_s=180), Step(name="contract", limit_s=600)]
    if options.gpus:
        steps.append(Step(name="device", limit_s=300))
    steps += [Step(name=f"plain:{dtype}", limit_s=400) for dtype in options.dtypes]
    for pair in options.layouts:
        steps.append(Step(name=f"transitions:{pair}", limit_s=400))
        steps.append(Step(name=f"kv:{pair}", limit_s=400))
        for dtype in options.dtypes:
            steps += [
                Step(name=f"tokens:{pair}:{dtype}:{mode}", limit_s=600) for mode in options.modes
            ]
    last = options.layouts[-1]
    steps += [Step(name=f"kill:{last}:{who}", limit_s=300) for who in ("rank", "core", "server")]
    steps.append(Step(name=f"refused:{last}", limit_s=300))
    return steps
