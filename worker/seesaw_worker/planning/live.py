"""Plans while serving: what the requests that really came would be served best by.

The worker never acts on them. It tells, and the operator or a person decides.
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

LOOK_EVERY_S = 60.0
TELLING_REQUESTS = 200
_PROMPT = "vllm:request_prompt_tokens"
_OUTPUT = "vllm:request_generation_tokens"


class Traffic:
    """What vLLM's own histograms say of the requests that it has answered."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry: Any = registry

    def totals(self) -> FinishedTotals:
        """As of now; nothing before the engines run or with ``--disable-log-stats``."""
        wanted = (f"{_PROMPT}_count", f"{_PROMPT}_sum", f"{_OUTPUT}_sum")
        found = dict.fromkeys(wanted, 0.0)
        for family in self._registry.restricted_registry(wanted).collect():
            for sample in family.samples:
                found[sample.name] += sample.value
        requests, prompt, output = (int(found[name]) for name in wanted)
        return FinishedTotals(requests=requests, prompt_tokens=prompt, output_tokens=output)


class Replanner:
    """Holds the plan in force against the requests that came.

    Each look is about the requests since the last one, at least 200. A choice is proposed once two
    looks in a row make it, so that no short burst restarts workers.

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
        self._seen = FinishedTotals()
        self._last_choice: tuple[str, str] | None = None

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self.look()

    async def look(self) -> None:
        """Plan for the requests since the last look, if they are enough to tell."""
        question = self._planned.question
        totals = self._traffic()
        recent = _since(self._seen, totals)
        if question is None or recent.requests < TELLING_REQUESTS:
            return
        self._seen = totals
        outlook = await asyncio.to_thread(
            _look, question, self._planned.pair, recent, self._planned.may_reshard
        )
        self._take(outlook)

    def _take(self, outlook: Outlook) -> None:
        found = outlook.proposal
        choice = None if found is None else (found.prefill, found.decode)
        settled, self._last_choice = choice == self._last_choice, choice
        proposed = self.summary.proposed
        before = None if proposed is None else (proposed.prefill, proposed.decode)
        if settled and choice != before:
            proposed = found
        self.summary = dataclasses.replace(
            self.summary,
            expected_tokens_per_s=outlook.expected_tokens_per_s,
            num_running=outlook.num_running or self.summary.num_running,
            proposed=proposed,
        )
        if proposed is found and found is not None:
            self._on_proposal(found)


def _since(before: FinishedTotals, now: FinishedTotals) -> FinishedTotals:
    return FinishedTotals(
        requests=now.requests - before.requests,
        prompt_tokens=now.prompt_tokens - before.prompt_tokens,
        output_tokens=now.output_tokens - before.output_tokens,
    )


def _look(
    question: PlanRequest, in_force: LayoutPair, recent: FinishedTotals, may_reshard: bool
) -> Outlook:
    planned = question.workload
    came = Workload(
        prompt_tokens=max(1, round(recent.prompt_tokens / recent.requests)),
        output_tokens=max(1, round(recent.output_tokens / recent.requests)),
        longest_tokens=planned.longest_tokens,
        concurrency=planned.concurrency,
    )
    return look_ahead(
        dataclasses.replace(question, workload=came), in_force, may_reshard=may_reshard
    )
