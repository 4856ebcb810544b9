"""Plans again while serving, for the requests that the worker has received.

The worker never applies such a plan. It proposes the plan, and the operator or a person decides.
"""

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry

from seesaw_core.layouts import LayoutPair
from seesaw_core.messages import FinishedTotals, PlanSummary, Proposal
from seesaw_core.planner.choose import PlanRequest
from seesaw_core.planner.proposals import Outlook, look_ahead
from seesaw_core.planner.workloads import Workload
from seesaw_worker.planning.start import Planned

REPLAN_EVERY_S = 60.0
MIN_REQUESTS = 200
_PROMPT = "vllm:request_prompt_tokens"
_OUTPUT = "vllm:request_generation_tokens"


class Traffic:
    """Totals of the answered requests, from vLLM's own histograms."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry: Any = registry

    def totals(self) -> FinishedTotals:
        """Return the totals; all 0 before the engines run, or with ``--disable-log-stats``."""
        names = (f"{_PROMPT}_count", f"{_PROMPT}_sum", f"{_OUTPUT}_sum")
        values = dict.fromkeys(names, 0.0)
        for family in self._registry.restricted_registry(names).collect():
            for sample in family.samples:
                values[sample.name] += sample.value
        requests, prompt, output = (int(values[name]) for name in names)
        return FinishedTotals(requests=requests, prompt_tokens=prompt, output_tokens=output)


class Replanner:
    """Compares the plan in force with the best one for recent requests.

    Each comparison covers the requests since the last one, at least 200. A plan is proposed only
    once two comparisons in a row choose it, so that a short burst does not restart workers.

    Call order: :meth:`run` as a task; ``summary`` at any time.
    """

    def __init__(
        self,
        planned: Planned,
        traffic: Callable[[], FinishedTotals],
        on_proposal: Callable[[Proposal], None],
    ) -> None:
        self.summary: PlanSummary = planned.summary
        self._planned = planned
        self._traffic = traffic
        self._on_proposal = on_proposal
        self._last_totals = FinishedTotals()
        self._last_choice: tuple[str, str] | None = None

    async def run(self) -> None:
        """Plan again for ever."""
        while True:
            await asyncio.sleep(REPLAN_EVERY_S)
            await self.replan()

    async def replan(self) -> None:
        """Plan for the requests since the last comparison, if there are enough."""
        request = self._planned.request
        totals = self._traffic()
        recent = _since(self._last_totals, totals)
        if request is None or recent.requests < MIN_REQUESTS:
            return
        self._last_totals = totals
        outlook = await asyncio.to_thread(
            _outlook, request, self._planned.pair, recent, self._planned.may_reshard
        )
        self._take(outlook)

    def _take(self, outlook: Outlook) -> None:
        proposal = outlook.proposal
        choice = None if proposal is None else (proposal.prefill, proposal.decode)
        settled, self._last_choice = choice == self._last_choice, choice
        proposed = self.summary.proposed
        before = None if proposed is None else (proposed.prefill, proposed.decode)
        if settled and choice != before:
            proposed = proposal
        self.summary = dataclasses.replace(
            self.summary,
            expected_tokens_per_s=outlook.expected_tokens_per_s,
            num_running=outlook.num_running or self.summary.num_running,
            proposed=proposed,
        )
        if proposed is proposal and proposal is not None:
            self._on_proposal(proposal)


def _since(before: FinishedTotals, now: FinishedTotals) -> FinishedTotals:
    return FinishedTotals(
        requests=now.requests - before.requests,
        prompt_tokens=now.prompt_tokens - before.prompt_tokens,
        output_tokens=now.output_tokens - before.output_tokens,
    )


def _outlook(
    request: PlanRequest, in_force: LayoutPair, recent: FinishedTotals, may_reshard: bool
) -> Outlook:
    planned = request.workload
    workload = Workload(
        prompt_tokens=max(1, round(recent.prompt_tokens / recent.requests)),
        output_tokens=max(1, round(recent.output_tokens / recent.requests)),
        longest_tokens=planned.longest_tokens,
        concurrency=planned.concurrency,
    )
    return look_ahead(
        dataclasses.replace(request, workload=workload), in_force, may_reshard=may_reshard
    )
