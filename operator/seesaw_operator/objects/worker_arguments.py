"""The command line of a worker."""

from seesaw_core.units import GIB
from seesaw_operator.api.spec import Spec
from seesaw_operator.names import WORKER_PORT
from seesaw_operator.objects.context import Context
from seesaw_operator.objects.layouts import layouts_of, num_engines
from seesaw_operator.objects.quantities import num_bytes, seconds

CPU = "cpu"
MODEL_MOUNT = "/models"
PVC = "pvc://"
_HUB = "hf://"


def arguments(context: Context, index: int) -> list[str]:
    """Return the command line of one engine pair. Users' flags come last, and so win.

    Kubernetes replaces ``$(NAME)`` by the value of a variable, so each ``$`` of ours is escaped.
    """
    spec = context.spec
    size_gib = num_bytes(spec.kv_buffer.size) / num_engines(spec) / GIB
    given: dict[str, object] = {
        "--served-model-name": spec.model.name or context.owner.name,
        "--host": "0.0.0.0",
        "--port": WORKER_PORT + index,
        **_parallelism(spec),
        "--reshard": spec.reshard.lower(),
        "--kv-buffer-gib": f"{size_gib:.6g}",
        "--flush-timeout-s": f"{seconds(spec.waves.max_wait):g}",
        "--drain-timeout-s": context.timing.drain_s,
    }
    if spec.model.max_model_len is not None:
        given["--max-model-len"] = spec.model.max_model_len
    flags = [f"{flag}={value}" for flag, value in given.items()]
    if spec.accelerator.resource_name == CPU:
        flags.append("--enforce-eager")  # compiling takes a C++ compiler, and minutes
    escaped = [each.replace("$", "$$") for each in (model_path(spec), *flags)]
    return ["worker", *escaped, *spec.engine.extra_args]


def _parallelism(spec: Spec) -> dict[str, object]:
    """Return the layouts, or what a worker needs in order to plan them itself."""
    layouts = layouts_of(spec)
    if layouts is not None:
        prefill, decode = layouts
        return {
            "--prefill-tensor-parallel-size": prefill.tensor,
            "--prefill-pipeline-parallel-size": prefill.pipeline,
            "--decode-tensor-parallel-size": decode.tensor,
            "--decode-pipeline-parallel-size": decode.pipeline,
        }
    planning = spec.planning
    given = {
        "--parallelism": "auto",
        "--devices": spec.accelerator.count,
        "--accelerator": spec.accelerator.product,
        "--plan-prompt-tokens": planning.prompt_tokens,
        "--plan-output-tokens": planning.output_tokens,
        "--plan-concurrency": planning.concurrency,
    }
    return {flag: value for flag, value in given.items() if value is not None}


def model_path(spec: Spec) -> str:
    """Return where a worker finds the model."""
    uri = spec.model.uri
    if not uri.startswith(PVC):
        return uri.removeprefix(_HUB)
    _, _, path = uri.removeprefix(PVC).partition("/")
    return f"{MODEL_MOUNT}/{path}".rstrip("/")
