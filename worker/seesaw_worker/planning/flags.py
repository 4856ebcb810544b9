"""The flags that let a worker choose its layouts."""

from argparse import Namespace

from seesaw_core.errors import InputError
from seesaw_flags.files import InputFile
from seesaw_flags.values import Whole
from seesaw_worker.settings.flag import Flag
from seesaw_worker.settings.planning import Parallelism, Planning

FLAGS = (
    Flag(
        name="--parallelism",
        sets="planning.parallelism",
        parse=str,
        default=Parallelism.MANUAL.value,
        choices=tuple(p.value for p in Parallelism),
        help="'manual': the layouts are those of the flags. 'auto': the planner chooses them from "
        "the model, the devices and the workload, or a static one where re-sharding does not pay.",
    ),
    Flag(
        name="--accelerator",
        sets="planning.accelerator",
        parse=str,
        default=None,
        help="With --parallelism=auto, the device by its name in the catalogue, such as L4. "
        "Default: what the first GPU calls itself.",
    ),
    Flag(
        name="--plan-accelerators",
        sets="planning.accelerators",
        parse=InputFile(),
        default=None,
        help="With --parallelism=auto, a TOML file with accelerators of your own.",
    ),
    Flag(
        name="--devices",
        sets="planning.num_devices",
        parse=Whole(),
        default=None,
        help="With --parallelism=auto, how many devices to lay the model over. Default: all GPUs "
        "that are visible; 1 on the CPU.",
    ),
    Flag(
        name="--plan-prompt-tokens",
        sets="planning.prompt_tokens",
        parse=Whole(),
        default=Planning().prompt_tokens,
        help="With --parallelism=auto, the mean length of prompts.",
    ),
    Flag(
        name="--plan-output-tokens",
        sets="planning.output_tokens",
        parse=Whole(),
        default=Planning().output_tokens,
        help="With --parallelism=auto, the mean length of answers.",
    ),
    Flag(
        name="--plan-concurrency",
        sets="planning.concurrency",
        parse=Whole(),
        default=None,
        help="With --parallelism=auto, how many requests are in the worker at a time. Default: as "
        "many as it takes.",
    ),
    Flag(
        name="--plan-profile",
        sets="planning.profile",
        parse=InputFile(),
        default=None,
        help="With --parallelism=auto, what `seesaw calibrate` has measured on such devices. "
        "Default: shares of data-sheet figures.",
    ),
)

_LAYOUT_DEFAULTS = {
    "tensor_parallel_size": 1,
    "pipeline_parallel_size": 1,
    "decode_tensor_parallel_size": None,
    "decode_pipeline_parallel_size": None,
    "prefill_tensor_parallel_size": 1,
    "prefill_pipeline_parallel_size": None,
}


def planning_of(args: Namespace) -> Planning:
    """Raises: InputError for flags that contradict each other, naming both."""
    parallelism = Parallelism(args.parallelism)
    if parallelism is Parallelism.AUTO:
        for attribute, default in _LAYOUT_DEFAULTS.items():
            if getattr(args, attribute) != default:
                flag = "--" + attribute.replace("_", "-")
                raise InputError(
                    f"--parallelism=auto and {flag}={getattr(args, attribute)} both set a layout; "
                    "give one of them (--devices says how many devices to plan for)"
                )
    else:
        for each in FLAGS[1:]:
            if getattr(args, each.attribute) != each.default:
                raise InputError(
                    f"{each.name}={getattr(args, each.attribute)} is for a plan; add "
                    "--parallelism=auto, or drop it"
                )
    return Planning(
        parallelism=parallelism,
        accelerator=args.accelerator,
        accelerators=args.plan_accelerators,
        num_devices=args.devices,
        prompt_tokens=args.plan_prompt_tokens,
        output_tokens=args.plan_output_tokens,
        concurrency=args.plan_concurrency,
        profile=args.plan_profile,
    )
