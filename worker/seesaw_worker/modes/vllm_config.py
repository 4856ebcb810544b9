"""Creates vLLM's configuration from the flags of ``vllm serve`` and a layout."""

import dataclasses

from vllm.config import VllmConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.usage.usage_lib import UsageContext

from seesaw_core.layouts import Layout
from seesaw_worker.upstream.flag_hints import naming_the_flag
from seesaw_worker.upstream.refusals import refusals


def create_config(args: AsyncEngineArgs, usage: UsageContext) -> VllmConfig:
    """Create vLLM's configuration. Raises: InputError that names the flag at fault."""

    def create(args: AsyncEngineArgs) -> VllmConfig:
        with refusals():
            return args.create_engine_config(usage_context=usage)

    return naming_the_flag(args, _defaults(), create)


def _defaults() -> dict[str, object]:
    """Return vLLM's defaults without creating an instance, which would load a default model."""
    defaults: dict[str, object] = {}
    for field in dataclasses.fields(AsyncEngineArgs):
        if field.default is not dataclasses.MISSING:
            defaults[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            defaults[field.name] = field.default_factory()
    return defaults


def with_layout(args: AsyncEngineArgs, layout: Layout) -> AsyncEngineArgs:
    """Return the flags with another layout, in which each rank is a process."""
    return dataclasses.replace(
        args,
        tensor_parallel_size=layout.tensor,
        pipeline_parallel_size=layout.pipeline,
        distributed_executor_backend="mp",
    )
