"""vLLM's engine client with what the server of a worker asks besides."""

from collections.abc import Mapping
from typing import Any

from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.core_client import AsyncMPClient
from vllm.v1.engine.exceptions import EngineDeadError

from seesaw_worker.modes.mode import Core
from seesaw_worker.upstream.schemas import check_structure


class WatchedLLM(AsyncLLM):
    """vLLM's engine client, healthy only as long as its engines go on.

    ``is_stalled`` is set by who watches them.
    """

    is_stalled = False

    async def check_health(self) -> None:
        """Raises: EngineDeadError, which answers 503."""
        if self.is_stalled:
            raise EngineDeadError
        await super().check_health()

    async def add_request(
        self, request_id: str, prompt: Any, params: Any, *more: Any, **named: Any
    ) -> Any:
        """Raises: VLLMValidationError for a structure that would take all memory to compile."""
        check_structure(getattr(params, "structured_outputs", None))
        return await super().add_request(request_id, prompt, params, *more, **named)

    def watched_cores(self) -> Mapping[str, Core]:
        """The engines, by a name for messages."""
        return {"the engine": self.engine_core}

    def hand_over(self) -> int | None:
        """The number of the hand-over between engines that runs now."""
        return None

    def expected_step_s(self) -> float:
        """How long a step may take by what was measured at the start; 0 if nothing was."""
        return 0.0

    def fail(self) -> None:
        """Let every request end with an error, now."""
        for core in self.watched_cores().values():
            end_with_error(core)


def end_with_error(core: AsyncMPClient) -> None:
    """Let every request that waits for an engine's outputs end with an error, now."""
    core.resources.engine_dead = True
    core.outputs_queue.put_nowait(EngineDeadError())
