"""The object that vLLM's front end calls instead of its core client, with two engines behind it.

Requests and aborts go to the controller. Outputs come from the decode engine, to which all other
calls go as well.
"""

import asyncio
from typing import Any

from vllm.v1.engine.core_client import AsyncMPClient

from seesaw_core.errors import UnsupportedError
from seesaw_worker.modes.client import end_with_error
from seesaw_worker.modes.resharding.controller import Controller

_UNSUPPORTED = {
    "sleep_async": "sleep mode",
    "release_kv_cache_memory_async": "releasing KV-cache memory",
    "set_weight_version_async": "updating weights in place",
}

_REWRITES = frozenset(
    {
        "init_weight_transfer_engine",
        "start_weight_update",
        "start_draft_weight_update",
        "update_weights",
        "finish_weight_update",
        "reload_weights",
    }
)


class TwoEngineClient:
    """Stands in for the ``engine_core`` of vLLM's ``AsyncLLM``."""

    def __init__(self, prefill: AsyncMPClient, decode: AsyncMPClient) -> None:
        self.prefill = prefill
        self.decode = decode
        self._controller: Controller | None = None
        self._paused = False
        self._pausing = asyncio.Lock()

    def __getattr__(self, name: str) -> Any:
        if name in _UNSUPPORTED:
            raise UnsupportedError(
                f"{_UNSUPPORTED[name]} does not work with re-sharding; start the worker with "
                "--reshard never"
            )
        return getattr(self.decode, name)

    @property
    def controller(self) -> Controller:
        assert self._controller is not None, "the controller is set before the first request"
        return self._controller

    @controller.setter
    def controller(self, controller: Controller) -> None:
        self._controller = controller

    async def add_request_async(self, request: Any) -> None:
        self.decode.ensure_alive()
        await self.controller.submit(request)

    async def abort_requests_async(self, request_ids: list[str]) -> None:
        if request_ids and not self.decode.resources.engine_dead:
            await self.controller.abort(request_ids)

    async def get_output_async(self) -> Any:
        outputs = await self.decode.get_output_async()
        self.controller.observe_outputs(outputs.outputs)
        if outputs.scheduler_stats is not None:
            # The buffer is no cache: its KV was computed for the very request that loads it.
            outputs.scheduler_stats.connector_prefix_cache_stats = None
        return outputs

    async def pause_scheduler_async(self, mode: Any = "abort", clear_cache: bool = True) -> None:
        """Pause for a user: the worker stays in the decode phase until the user resumes.

        ``abort`` concerns every request, so those that the decode engine does not have yet are
        sent there first; ``wait`` and ``keep`` leave them where they are. After ``abort`` and
        ``wait`` each engine clears its cache if no request holds a block of it. Clearing is not
        left to vLLM's pause, which fails while KV is being loaded; stale KV is impossible, since
        weights cannot be rewritten. A running pause completes before the next pause or resume.
        """
        async with self._pausing:
            if self._paused:  # a completed pause has given the devices up
                await self.decode.collective_rpc_async("seesaw_acquire")
            else:
                await self.controller.pin_decode()
                self._paused = True
            if mode == "abort":
                await self.controller.move_all_to_decode()
            await self.decode.pause_scheduler_async(mode, False)
            if clear_cache and mode != "keep":
                await self.reset_prefix_cache_async()

    async def resume_scheduler_async(self) -> None:
        async with self._pausing:
            if not self._paused:
                return  # a pause by the phase policy is not the user's to end
            await self.decode.collective_rpc_async("seesaw_acquire")
            await self.decode.resume_scheduler_async()
            self._paused = False
            self.controller.unpin_decode()

    async def is_scheduler_paused_async(self) -> bool:
        return self._paused

    async def collective_rpc_async(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        if method in _REWRITES:
            raise UnsupportedError(
                f"{method} would be undone by the next transition; start the worker with "
                "--reshard never"
            )
        return await self.decode.collective_rpc_async(method, *args, **kwargs)

    async def reset_prefix_cache_async(
        self, reset_running_requests: bool = False, reset_connector: bool = False
    ) -> bool:
        done = [
            await core.reset_prefix_cache_async(reset_running_requests, reset_connector)
            for core in (self.prefill, self.decode)
        ]
        return all(done)

    def fail(self) -> None:
        """End every request that waits for outputs with an error at once."""
        for core in (self.prefill, self.decode):
            end_with_error(core)

    def shutdown(self, timeout: float | None = None) -> None:
        for core in (self.prefill, self.decode):
            core.shutdown(timeout=timeout)
