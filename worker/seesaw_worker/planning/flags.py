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
        help="'manual': the flags set the layouts. 'auto': the planner chooses them for the "
        "model, the devices and the workload; a static layout where re-sharding does not pay.",
    ),
    Flag(
        name="--accelerator",
        sets="planning.accelerator",
        parse=str,
        default=None,
        help="With --parallelism=auto, the name of the devices in the catalogue, such as L4. "
        "Default: the name that the first GPU reports.",
    ),
    Flag(
        name="--plan-accelerators",
        sets="planning.accelerators",
        parse=InputFile(),
        default=None,
        help="With --parallelism=auto, a TOML file that describes further accelerators.",
    ),
    Flag(
        name="--devices",
        sets="planning.num_devices",
        parse=Whole(),
        default=None,
        help="With --parallelism=auto, the number of devices for the model. Default: all visible "
        "GPUs; 1 on the CPU.",
    ),
    Flag(
        name="--plan-prompt-tokens",
        sets="planning.prompt_tokens",
        parse=Whole(),
        default=Planning().prompt_tokens,
        help="With --parallelism=auto, the mean length of prompts, in tokens.",
    ),
    Flag(
        name="--plan-output-tokens",
        sets="planning.output_tokens",
        parse=Whole(),
        default=Planning().output_tokens,
        help="With --parallelism=auto, the mean length of answers, in tokens.",
    ),
    Flag(
        name="--plan-concurrency",
        sets="planning.concurrency",
        parse=Whole(),
        default=None,
        help="With --parallelism=auto, the number of requests in the worker at a time. Default: "
        "as many as fit.",
    ),
    Flag(
        name="--plan-profile",
        sets="planning.profile",
        parse=InputFile(),
        default=None,
        help="With --parallelism=auto, the profile that `seesaw calibrate` measured on such "
        "devices. Default: fixed shares of the data-sheet figures.",
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
    """Return the planning settings. Raises: InputError naming flags that contradict each other."""
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
                    f"{each.name}={getattr(args, each.attribute)} has no effect without a plan; "
                    "add --parallelism=auto, or drop it"
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
