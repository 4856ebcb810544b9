"""The connector's scheduler half: which blocks each step saves or loads, and for which request.

The decode engine releases a request's buffer entry exactly once: after the load on all ranks, or
as soon as the request cannot load it any more. A preempted request is recomputed.
"""

from typing import TYPE_CHECKING

from seesaw_core.resharding.blocks import num_blocks_for
from seesaw_worker.modes.resharding.kv.transfer import (
    BlockCopy,
    BufferTicket,
    Progress,
    ProgressSender,
    StepCopies,
)
from seesaw_worker.settings.engine import EngineSettings

if TYPE_CHECKING:
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.request import Request


class SaveSchedule:
    """The prefill engine's scheduler half: chooses the blocks that each step saves."""

    def __init__(self, settings: EngineSettings) -> None:
        self._block_size = settings.block_size
        self._tickets: dict[str, BufferTicket] = {}

    def match(self, request: "Request", num_computed_tokens: int) -> tuple[int, bool]:
        return 0, False

    def admit(self, request: "Request", pool_blocks: list[int], num_external: int) -> None:
        ticket = BufferTicket.of(request.kv_transfer_params)
        if ticket is not None:
            self._tickets[request.request_id] = ticket

    def take_step(self, scheduler_output: "SchedulerOutput") -> StepCopies:
        """Return the blocks that this step fills or extends; at a request's first step, all.

        The first step covers the tokens from the local prefix cache, and those that a preempted
        request had saved before it lost its blocks.
        """
        block_state = scheduler_output.kv_connector_block_state
        assert block_state is not None
        computed = {
            r.req_id: (r.num_computed_tokens, True) for r in scheduler_output.scheduled_new_reqs
        }
        cached = scheduler_output.scheduled_cached_reqs
        for request_id, num_computed in zip(
            cached.req_ids, cached.num_computed_tokens, strict=True
        ):
            computed[request_id] = (num_computed, request_id in cached.resumed_req_ids)
        step = StepCopies()
        for request_id, num_new in scheduler_output.num_scheduled_tokens.items():
            ticket = self._tickets.get(request_id)
            tables = block_state.get_block_ids(request_id)
            if ticket is None or tables is None:
                continue
            num_computed, is_first = computed[request_id]
            start = 0 if is_first else num_computed // self._block_size
            num_filled = min(num_computed + num_new, ticket.num_tokens)
            stop = num_blocks_for(num_filled, self._block_size)
            if start < stop:
                step.saves.append(
                    BlockCopy(
                        request_id=request_id,
                        buffer_blocks=ticket.blocks[start:stop],
                        pool_blocks=tuple(tables[0][start:stop]),
                    )
                )
        return step

    def finished(self, request_id: str) -> None:
        self._tickets.pop(request_id, None)


class LoadSchedule:
    """The decode engine's scheduler half: chooses the blocks to load and releases the entries."""

    def __init__(self, settings: EngineSettings, *, prefix_caching: bool = True) -> None:
        self._block_size = settings.block_size
        self._prefix_caching = prefix_caching
        self._sender = ProgressSender(settings.socket_path)
        self._unreleased: dict[str, BufferTicket] = {}
        self._loading: set[str] = set()
        self._next_loads: list[BlockCopy] = []

    def new(self, request: "Request") -> None:
        ticket = BufferTicket.of(request.kv_transfer_params)
        if ticket is not None:
            self._unreleased[request.request_id] = ticket

    def match(self, request: "Request", num_computed_tokens: int) -> tuple[int, bool]:
        ticket = self._unreleased.get(request.request_id)
        if ticket is None or request.num_preemptions:
            return 0, False
        external = max(ticket.num_tokens - num_computed_tokens, 0)
        return external, external > 0

    def admit(self, request: "Request", pool_blocks: list[int], num_external: int) -> None:
        request_id = request.request_id
        ticket = self._unreleased.get(request_id)
        if ticket is None or request_id in self._loading:
            return
        if not num_external:
            self._release(request_id)  # the local prefix cache has all of it
            return
        start = (ticket.num_tokens - num_external) // self._block_size
        stop = num_blocks_for(ticket.num_tokens, self._block_size)
        # Blocks before a sliding window are vLLM's null block 0, which is never read.
        pairs = [p for p in zip(ticket.blocks[start:stop], pool_blocks[start:stop]) if p[1]]
        self._loading.add(request_id)
        self._count_cached(request, ticket)
        self._sender.send(Progress.LOADING, ticket.key, request_id)
        self._next_loads.append(
            BlockCopy(
                request_id=request_id,
                buffer_blocks=tuple(b for b, _ in pairs),
                pool_blocks=tuple(p for _, p in pairs),
            )
        )

    def take_step(self, scheduler_output: "SchedulerOutput") -> StepCopies:
        step = StepCopies(loads=self._next_loads)
        self._next_loads = []
        return step

    def loaded(self, request_id: str) -> None:
        self._loading.discard(request_id)
        self._release(request_id)

    def finished(self, request_id: str) -> None:
        """Release the entry of a finished request, unless it is loading: :meth:`loaded` does."""
        if request_id not in self._loading:
            self._release(request_id)

    def close(self) -> None:
        self._sender.close()

    def _count_cached(self, request: "Request", ticket: BufferTicket) -> None:
        """Report as many cached tokens as plain vLLM would: those that were not computed.

        vLLM counts all tokens that a connector loads as cached, although here they were computed
        for this very request. A prefix from the cache of either engine counts as cached, since
        plain vLLM would have cached it too.
        Requires: vLLM has counted, which it does before it allocates.
        """
        stats = request.prefill_stats
        if stats is not None:
            cached = ticket.num_cached_tokens if self._prefix_caching else 0
            stats.set(
                num_prompt_tokens=stats.num_prompt_tokens,
                num_local_cached_tokens=max(stats.num_local_cached_tokens, cached),
                num_external_cached_tokens=0,
            )

    def _release(self, request_id: str) -> None:
        ticket = self._unreleased.pop(request_id, None)
        if ticket is not None:
            self._sender.send(Progress.RELEASED, ticket.key, request_id)
