"""vLLM's engine client, extended by what the server of a worker needs."""

from collections.abc import Mapping
from typing import Any

from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.core_client import AsyncMPClient
from vllm.v1.engine.exceptions import EngineDeadError

from seesaw_worker.processes.liveness import Core
from seesaw_worker.upstream.schemas import check_structure


class WatchedLLM(AsyncLLM):
    """vLLM's engine client, which is unhealthy while an engine is stalled.

    The server, which watches the engines, sets ``is_stalled``.
    """

    is_stalled = False

    async def check_health(self) -> None:
        """Raises: EngineDeadError, which vLLM answers with 503."""
        if self.is_stalled:
            raise EngineDeadError
        await super().check_health()

    async def add_request(
        self, request_id: str, prompt: Any, params: Any, *more: Any, **named: Any
    ) -> Any:
        """Raises: VLLMValidationError for a structured output that is too large to compile."""
        check_structure(getattr(params, "structured_outputs", None))
        return await super().add_request(request_id, prompt, params, *more, **named)

    def watched_cores(self) -> Mapping[str, Core]:
        """Return the engines by their names in messages."""
        return {"the engine": self.engine_core}

    def hand_over(self) -> int | None:
        """Return the number of the running hand-over between engines, if there is one."""
        return None

    def expected_step_s(self) -> float:
        """Return how long a step may take by the measurements at the start; 0 without any."""
        return 0.0

    def fail(self) -> None:
        """End every request with an error at once."""
        for core in self.watched_cores().values():
            end_with_error(core)


def end_with_error(core: AsyncMPClient) -> None:
    """End every request that waits for an engine's outputs with an error at once."""
    core.resources.engine_dead = True
    core.outputs_queue.put_nowait(EngineDeadError())
