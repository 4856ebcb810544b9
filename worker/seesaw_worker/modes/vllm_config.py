"""vLLM's configuration, made from the flags of ``vllm serve`` and a layout."""

import dataclasses

from vllm.config import VllmConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.usage.usage_lib import UsageContext

from seesaw_core.layouts import Layout
from seesaw_worker.upstream.flag_hints import name_the_flag
from seesaw_worker.upstream.refusals import refusals


def create_config(args: AsyncEngineArgs, usage: UsageContext) -> VllmConfig:
    """Returns vLLM's configuration made of flags. Raises: InputError that names the flag."""

    def create(args: AsyncEngineArgs) -> VllmConfig:
        with refusals():
            return args.create_engine_config(usage_context=usage)

    return name_the_flag(args, _defaults(), create)


def _defaults() -> dict[str, object]:
    """vLLM's defaults. Not those of an instance, which would look for its default model."""
    found: dict[str, object] = {}
    for field in dataclasses.fields(AsyncEngineArgs):
        if field.default is not dataclasses.MISSING:
            found[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            found[field.name] = field.default_factory()
    return found


def with_layout(args: AsyncEngineArgs, layout: Layout) -> AsyncEngineArgs:
    """Returns flags with a layout, each rank of which is a process of its own."""
    return dataclasses.replace(
        args,
        tensor_parallel_size=layout.tensor,
        pipeline_parallel_size=layout.pipeline,
        distributed_executor_backend="mp",
    )
