"""Plans the layouts at the start of a worker, from its flags, its model and its devices."""

import dataclasses
from argparse import Namespace
from pathlib import Path
from typing import Any

from seesaw_core.errors import InputError, ModelError
from seesaw_core.layouts import LayoutPair
from seesaw_core.messages import PlanSummary
from seesaw_core.planner.accelerators import (
    Accelerator,
    Catalogue,
    builtin_catalogue,
    read_catalogue,
)
from seesaw_core.planner.choose import PlanRequest
from seesaw_core.planner.memory import EngineLimits
from seesaw_core.planner.model_configs import describe_model
from seesaw_core.planner.models import Model
from seesaw_core.planner.profiles import Profile, calibrated_device, read_profile
from seesaw_core.planner.proposals import plan_pair, unpredicted
from seesaw_core.planner.workloads import Workload
from seesaw_core.resharding.policy import Reshard
from seesaw_core.units import GIB
from seesaw_flags.files import read_text
from seesaw_worker.planning.config_files import with_quantization
from seesaw_worker.planning.defaults import with_defaults
from seesaw_worker.settings.planning import Planning
from seesaw_worker.settings.worker import WorkerSettings
from seesaw_worker.upstream import platform
from seesaw_worker.upstream.refusals import refusals


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """The plan in force. ``request`` is None where nothing can be predicted, as on the CPU."""

    pair: LayoutPair
    summary: PlanSummary
    request: PlanRequest | None
    may_reshard: bool

    def settings(self, given: WorkerSettings) -> WorkerSettings:
        """Return the settings with the plan's layouts. A static plan does not re-shard."""
        reshard = given.reshard
        if self.pair.is_static:
            reshard = Reshard.NEVER
        return dataclasses.replace(
            given,
            prefill=self.pair.prefill,
            decode=self.pair.decode,
            policy=dataclasses.replace(given.policy, reshard=reshard),
        )

    def __str__(self) -> str:
        summary, prediction = self.summary, ""
        if summary.predicted_tokens_per_s is not None:
            prediction = (
                f" on {summary.accelerator}: about {summary.predicted_tokens_per_s:,} output "
                f"tokens/s with prompts of {summary.prompt_tokens:,} and answers of "
                f"{summary.output_tokens:,} tokens"
            )
        assumptions = () if self.request is None else self.request.model.assumptions
        notes = "".join(f"; note: {note}" for note in assumptions)
        return f"plan {self.pair}{prediction}: {summary.reason}{notes}"


def make_start_plan(args: Namespace, settings: WorkerSettings) -> Planned:
    """Choose the layouts.

    Requires: ``settings`` come from ``args``, with ``--parallelism=auto``.
    Raises: InputError naming the flag, its value and the allowed values; CapacityError if no
    layout fits.
    """
    planning = settings.planning
    model = _model(args)
    may_reshard = settings.reshard is not Reshard.NEVER
    num_devices = planning.num_devices or platform.num_devices()
    if planning.accelerator is None and platform.is_cpu():
        reason = (
            "on the CPU nothing is predicted, and re-sharding does not pay: the static layout with "
            "the most tensor parallelism (--accelerator=NAME plans as if for that device)"
        )
        pair, summary = unpredicted(model.shape, num_devices, reason=reason)
        return Planned(pair=pair, summary=summary, request=None, may_reshard=may_reshard)
    accelerator = find_accelerator(planning, platform.device_name())
    request = PlanRequest(
        model=model,
        device=accelerator,
        num_devices=num_devices,
        workload=_workload(planning, model, args.max_model_len),
        profile=_profile(planning, args.gpu_memory_utilization),
        limits=_limits(args, settings, num_devices),
        data_parallel=False,
        is_calibrated=_is_calibrated(planning, accelerator),
    )
    pair, summary = plan_pair(request, may_reshard=may_reshard)
    return Planned(pair=pair, summary=summary, request=request, may_reshard=may_reshard)


def find_accelerator(planning: Planning, device_name: str) -> Accelerator:
    """Return the catalogue's entry for ``--accelerator``, or for the GPU's own name without it.

    Raises: InputError listing the known accelerators.
    """
    catalogue = _catalogue(planning.accelerators)
    accelerator = catalogue.find(planning.accelerator or device_name)
    if accelerator is not None:
        return accelerator
    known = ", ".join(catalogue.accelerators)
    if planning.accelerator is not None:
        raise InputError(
            f"--accelerator={planning.accelerator} is not known; known: {known}; describe others "
            "in a file for --plan-accelerators"
        )
    raise InputError(
        f"this GPU calls itself {device_name!r}, which is not in the catalogue; give --accelerator "
        f"with the nearest of {known} and what was measured in --plan-profile, describe it in a "
        "file for --plan-accelerators, or set the layouts by hand without --parallelism=auto"
    )


def _catalogue(file: Path | None) -> Catalogue:
    if file is None:
        return builtin_catalogue()
    text = read_text(file, flag="--plan-accelerators")
    return read_catalogue(text, source=str(file), extends=builtin_catalogue())


def _is_calibrated(planning: Planning, accelerator: Accelerator) -> bool:
    """Whether ``--plan-profile`` is one that was measured on such a device."""
    if planning.profile is None:
        return False
    return calibrated_device(read_text(planning.profile, flag="--plan-profile")) == accelerator.name


def _profile(planning: Planning, memory_utilisation: float) -> Profile:
    profile = Profile()
    if planning.profile is not None:
        file = planning.profile
        profile = read_profile(
            read_text(file, flag="--plan-profile"), source=f"--plan-profile={file}"
        )
    return dataclasses.replace(profile, memory_utilisation=memory_utilisation)


def _workload(planning: Planning, model: Model, max_model_len: int | None) -> Workload:
    """Return the workload of the flags, and the longest request, which vLLM's pool must hold."""
    longest = model.max_tokens if max_model_len is None else max(0, max_model_len)
    return Workload(
        prompt_tokens=planning.prompt_tokens,
        output_tokens=planning.output_tokens,
        longest_tokens=longest,
        concurrency=planning.concurrency,
    )


def _limits(args: Namespace, settings: WorkerSettings, num_devices: int) -> EngineLimits:
    """Return vLLM's limits: those of the flags, or its defaults for this platform."""
    tokens, requests = platform.batch_defaults(num_devices)
    return EngineLimits(
        step_tokens=(args.max_num_batched_tokens or tokens,),
        max_requests=args.max_num_seqs or requests,
        buffer_bytes=settings.kv_buffer_gib * GIB / num_devices,
        flush_timeout_s=settings.policy.flush_timeout_s,
    )


def _model(args: Namespace) -> Model:
    """Describe the model. The config.json of a hub name is downloaded. Raises: ModelError."""
    return describe_model(
        with_defaults(_config(args.model, args.revision)),
        name=args.model,
        dtype=args.dtype,
        kv_dtype=args.kv_cache_dtype,
    )


def _config(model: str, revision: str | None) -> dict[str, Any]:
    from transformers import PretrainedConfig

    folder = Path(model).expanduser()
    place = str(folder) if folder.is_dir() else model
    try:
        with refusals():
            config, _ = PretrainedConfig.get_config_dict(place, revision=revision)
            if not config:
                raise ModelError("it does not exist")
    except InputError as error:
        raise ModelError(
            f"{model}: its config.json, which --parallelism=auto plans from, cannot be read "
            f"({error}); give a checkpoint's folder, or check the name and the network"
        ) from error
    return with_quantization(config, folder) if folder.is_dir() else dict(config)
