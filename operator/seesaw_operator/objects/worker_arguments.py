"""The command line of a worker."""

from seesaw_core.units import GIB
from seesaw_operator.api.spec import Spec
from seesaw_operator.names import WORKER_PORT
from seesaw_operator.objects.context import Context
from seesaw_operator.objects.layouts import buffer_bytes, elastic_of, layouts_of, num_engines
from seesaw_operator.objects.quantities import seconds

CPU = "cpu"
MODEL_MOUNT = "/models"
PVC = "pvc://"
_HUB = "hf://"


def arguments(context: Context, index: int) -> list[str]:
    """Return the command line of one engine pair. Users' flags come last, and so win.

    Kubernetes replaces ``$(NAME)`` by the value of a variable, so each ``$`` of ours is escaped.
    """
    spec = context.spec
    given: dict[str, object] = {
        "--served-model-name": spec.model.name or context.owner.name,
        "--host": "0.0.0.0",
        "--port": WORKER_PORT + index,
        **_parallelism(spec),
        **_resharding(spec),
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
    """Return instances or layouts, or what a worker needs in order to plan layouts itself."""
    elastic = elastic_of(spec)
    if elastic is not None:
        return {
            "--elastic-instances": elastic.instances,
            "--tensor-parallel-size": elastic.tensor,
        }
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


def _resharding(spec: Spec) -> dict[str, object]:
    """Return how to re-shard: nothing for elastic instances, which refuse such flags."""
    if elastic_of(spec) is not None:
        return {}
    size_gib = buffer_bytes(spec) / num_engines(spec) / GIB
    return {
        "--reshard": spec.reshard.lower(),
        "--kv-buffer-gib": f"{size_gib:.6g}",
        "--flush-timeout-s": f"{seconds(spec.waves.max_wait):g}",
    }


def model_path(spec: Spec) -> str:
    """Return where a worker finds the model."""
    uri = spec.model.uri
    if not uri.startswith(PVC):
        return uri.removeprefix(_HUB)
    _, _, path = uri.removeprefix(PVC).partition("/")
    return f"{MODEL_MOUNT}/{path}".rstrip("/")
