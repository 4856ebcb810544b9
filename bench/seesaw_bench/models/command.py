"""``seesaw bench models``: plan public models, and hold their counts against published ones.

The folder of --configs has those of public models, as NAME_config.json with
NAME_hf_quant_config.json beside it, such as ``aiconfigurator_core/model_configs`` in the wheel of
aiconfigurator-core 0.12 (PyPI). The command prints each model's parameters, the published ones, the
weights, and how it is planned, in some seconds. It fails if a model is refused or its parameters
are off by more than 1 %.

  pip download --no-deps aiconfigurator-core==0.12.0 && unzip -q aiconfigurator_core-*.whl
  seesaw bench models --configs aiconfigurator_core/model_configs
"""

import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from seesaw_cli.planner_flags.flags import read_model, table
from seesaw_core.errors import CapacityError, InputError, ModelError
from seesaw_core.planner.accelerators import Accelerator, builtin_catalogue
from seesaw_core.planner.choose import PlanRequest, make_plan
from seesaw_core.planner.models import Model
from seesaw_core.planner.workloads import Workload
from seesaw_core.units import GIB
from seesaw_flags.files import InputFolder
from seesaw_flags.parser import CommandParser
from seesaw_flags.values import Whole

_END = "_config.json"
_BESIDE = "_hf_quant_config.json"
_LARGEST_ERROR = 0.01
_HEAD = ("model", "parameters", "published", "error", "weights GiB", "KiB a token", "planned")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A model, how many parameters were published of it, and how it is planned.

    ``model`` is None if the planner refuses it, and ``published`` if the table lacks it.
    """

    name: str
    model: Model | None
    published: int | None
    planned: str

    @property
    def error(self) -> float | None:
        if self.model is None or self.published is None:
            return None
        return self.model.num_params / self.published - 1

    @property
    def is_held(self) -> bool:
        """Whether the model is planned, and its parameters are near the published ones."""
        return self.error is not None and abs(self.error) <= _LARGEST_ERROR


def run(arguments: list[str]) -> int:
    """Plan all models and print the table. Returns 1 if one of them does not hold, else 0."""
    options = parser().parse_args(arguments)
    found = list(configs_in(options.configs))
    if not found:
        raise InputError(
            f"--configs={options.configs} has no NAME{_END}; give "
            "aiconfigurator_core/model_configs of the unpacked wheel"
        )
    published = read_published()
    on = PlanOn(builtin_catalogue().accelerator(options.accelerator), options.devices)
    judged = []
    for number, (name, file) in enumerate(found, 1):
        judged.append(judge(name, file, published.get(name), on))
        if number % 10 == 0:
            print(f"seesaw bench: {number} of {len(found)}", file=sys.stderr, flush=True)
    print(table(_HEAD, [_row(each) for each in judged]))
    held = sum(each.is_held for each in judged)
    print(
        f"\n{held} of {len(judged)} are planned, with parameters within 1 % of the published ones"
    )
    return 0 if held == len(judged) else 1


def parser() -> CommandParser:
    """The command's flags."""
    command = CommandParser(prog="seesaw bench models", description=__doc__)
    command.add_argument(
        "--configs",
        metavar="FOLDER",
        type=InputFolder(),
        required=True,
        help="folder of configs, named NAME_config.json",
    )
    command.add_argument(
        "--accelerator",
        default="H200",
        metavar="NAME",
        help="what to plan for, as in `seesaw plan --list` (default: %(default)s)",
    )
    command.add_argument(
        "--devices",
        type=Whole(most=1024),
        default=16,
        metavar="N",
        help="number of devices (default: %(default)s)",
    )
    return command


def configs_in(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the names of models with their config files."""
    for file in sorted(folder.glob(f"*{_END}")):
        if not file.name.endswith(_BESIDE):
            yield file.name.removesuffix(_END), file


def read_published() -> dict[str, int]:
    """Return published parameters by the names of configs."""
    text = files("seesaw_bench.models").joinpath("published.toml").read_text(encoding="utf-8")
    return {name: m["params"] for m in tomllib.loads(text)["model"] for name in m["names"]}


@dataclass(frozen=True, slots=True)
class PlanOn:
    """The devices to plan for."""

    device: Accelerator
    num_devices: int


def judge(name: str, file: Path, published: int | None, on: PlanOn) -> Judged:
    """Read a config and plan for it."""
    try:
        model = read_model(str(file), dtype="auto", kv_dtype="auto")
    except ModelError as error:
        return Judged(name=name, model=None, published=published, planned=f"refused: {error}")
    request = PlanRequest(
        model=model,
        device=on.device,
        num_devices=on.num_devices,
        workload=Workload(prompt_tokens=1000, output_tokens=250, longest_tokens=4096),
    )
    try:
        plan = make_plan(request)
    except CapacityError:
        planned = f"does not fit on {on.num_devices} x {on.device.name}"
    else:
        planned = str(plan.best) if plan.pairs else f"{plan.best}, static: {model.static_only}"
    return Judged(name=name, model=model, published=published, planned=planned)


def _row(judged: Judged) -> tuple[str, ...]:
    model, published = judged.model, judged.published
    known = "" if published is None else f"{published / 1e9:,.2f} B"
    if model is None:
        return judged.name, "", known, "", "", "", judged.planned
    return (
        judged.name,
        f"{model.num_params / 1e9:,.2f} B",
        known,
        "" if judged.error is None else f"{100 * judged.error:+.2f} %",
        f"{model.total_bytes / GIB:,.1f}",
        f"{model.kv_bytes_per_token / 1024:,.1f}",
        judged.planned,
    )
