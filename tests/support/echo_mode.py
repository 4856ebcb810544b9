"""A second mode in a few lines, whose engine answers with the prompt. Run as a program, it serves.

Server, router and operator do not know it.
"""

import asyncio
import sys
from argparse import Namespace
from collections.abc import AsyncIterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.renderers import renderer_from_config
from vllm.usage.usage_lib import UsageContext
from vllm.v1.engine.input_processor import InputProcessor

from seesaw_worker.modes.client import WatchedLLM
from seesaw_worker.modes.mode import Hooks, ModeState
from seesaw_worker.modes.vllm_config import create_config
from seesaw_worker.processes.liveness import Core
from seesaw_worker.server.commandline import parse
from seesaw_worker.server.settings import settings_of
from seesaw_worker.server.worker_server import WorkerServer


class EchoClient(WatchedLLM):
    errored = False

    def __init__(self, args: Namespace) -> None:
        engine_args = AsyncEngineArgs.from_cli_args(args)
        self.vllm_config = create_config(engine_args, UsageContext.OPENAI_API_SERVER)
        self.model_config = self.vllm_config.model_config
        self.renderer = renderer_from_config(self.vllm_config)
        self.input_processor = InputProcessor(self.vllm_config, self.renderer)

    async def generate(
        self, prompt: Any, params: Any, request_id: str, **_: Any
    ) -> AsyncIterator[RequestOutput]:
        tokens = list(prompt["prompt_token_ids"])
        answer = tokens[: params.max_tokens]
        text = self.renderer.tokenizer.decode(answer)
        output = CompletionOutput(0, text, answer, None, None, finish_reason="length")
        yield RequestOutput(request_id, None, tokens, None, [output], finished=True)

    async def get_supported_tasks(self) -> tuple[str, ...]:
        return ("generate",)

    def watched_cores(self) -> Mapping[str, Core]:
        return {}

    def check_admission(self, *_: Any, **__: Any) -> None: ...
    async def check_health(self) -> None: ...
    async def do_log_stats(self) -> None: ...
    def shutdown(self, timeout: float | None = None) -> None: ...


class EchoMode:
    """Implements :class:`seesaw_worker.modes.mode.Mode`."""

    name, summary, progress = "echo", "an echo", ""

    def __init__(self, args: Namespace) -> None:
        self._args = args

    def register(self, registry: CollectorRegistry) -> None: ...
    def refresh(self) -> None: ...
    def close(self) -> None: ...
    async def prepare(self, hooks: Hooks) -> None: ...

    async def start(self, hooks: Hooks) -> EchoClient:
        return EchoClient(self._args)

    def state(self) -> ModeState:
        return ModeState()


if __name__ == "__main__":
    served = parse(sys.argv[1:])
    server = WorkerServer(served, settings_of(served), EchoMode(served))
    sys.exit(asyncio.run(server.run()))
