"""From the driver's plans to the tasks that the executor launches."""

from collections.abc import Iterable

from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.engine import EngineCoreEventType
from vllm.v1.request import Request, RequestStatus
from vllm.v1.structured_output import StructuredOutputManager

from seesaw_core.elastic.view import Plan, Prefill, Step
from seesaw_worker.modes.elastic.books import Books, Running, keys_of
from seesaw_worker.modes.elastic.composing import Mask
from seesaw_worker.modes.elastic.tasks import ElasticStep, Launch, Task


class Launcher:
    """Carries out plans. ``log_stats``: requests are to know when they began to run."""

    def __init__(self, books: Books, grammars: StructuredOutputManager, *, log_stats: bool) -> None:
        self._books, self._grammars, self._log_stats = books, grammars, log_stats
        self._num_launched = 0

    def plan(self, now_s: float, step: ElasticStep, output: SchedulerOutput) -> None:
        """Add to ``step`` what can begin now, and to ``output`` what vLLM counts of it."""
        self._books.is_changed = False
        while True:
            plan = self._books.driver.next_plan(now_s)
            self._books.follow_cache()
            self._carry_out(plan, step, output)
            if not plan.preemptions:
                return

    def _carry_out(self, plan: Plan, step: ElasticStep, output: SchedulerOutput) -> None:
        books = self._books
        for preemption in plan.preemptions:
            self._preempt(books.requests[preemption.key])
        computed: tuple[Step, ...] = (*plan.prefills, *plan.decodes)
        masks = self._masks([key for each in computed for key in keys_of(each)])
        for migration in plan.migrations:
            self._launch(step, migration, books.composer.migrate(migration, books.driver.moves))
        for prefill in plan.prefills:
            tasks = books.composer.prefill(prefill, books.requests, masks)
            self._launch(step, prefill, tasks)
            for key in prefill.placements:
                self._begin(books.requests[key], prefill.num_reused(key), output)
        for decode in plan.decodes:
            placements = {key: books.driver.pool.placement(key) for key in decode.masters}
            tasks = books.composer.decode(decode, books.requests, placements, masks)
            self._launch(step, decode, tasks)
            output.num_scheduled_tokens.update(dict.fromkeys(decode.masters, 1))
        output.total_num_scheduled_tokens = sum(output.num_scheduled_tokens.values())

    def _begin(self, request: Request, num_cached: int, output: SchedulerOutput) -> None:
        """A request is prefilled now."""
        if request.status is not RequestStatus.PREEMPTED and request.prefill_stats is not None:
            request.prefill_stats.set(request.num_prompt_tokens, num_cached, 0)
        if self._log_stats:
            request.record_event(EngineCoreEventType.SCHEDULED)
        request.status = RequestStatus.RUNNING
        output.num_scheduled_tokens[request.request_id] = request.num_tokens - num_cached

    def _preempt(self, request: Request) -> None:
        self._books.composer.release(request.request_id)
        request.status = RequestStatus.PREEMPTED
        request.num_preemptions += 1
        if self._log_stats:
            request.record_event(EngineCoreEventType.PREEMPTED)

    def _launch(self, step: ElasticStep, planned: Step, tasks: dict[int, Task]) -> None:
        self._num_launched += 1
        number, keys = self._num_launched, keys_of(planned)
        expected_s = self._expected_s(planned)
        step.launches.append(Launch(number=number, tasks=tasks, expected_s=expected_s))
        self._books.running[number] = Running(step=planned, instances=tuple(tasks), keys=keys)
        self._books.computing.update(dict.fromkeys(keys, number))
        self._books.totals.count(planned)
        self._books.timeline.begin(planned, self._books.driver.pool)

    def _expected_s(self, planned: Step) -> float:
        if not isinstance(planned, Prefill):
            return 0.0
        lengths = [placement.num_tokens for placement in planned.placements.values()]
        return self._books.driver.costs.prefill[len(planned.instances)].seconds(lengths)

    def _masks(self, keys: Iterable[str]) -> dict[str, Mask]:
        """Return what the grammars of requests with structured output allow next."""
        requests = self._books.requests
        masked = [key for key in keys if requests[key].use_structured_output]
        if not masked:
            return {}
        rows = self._grammars.grammar_bitmask(requests, masked, {})
        return {} if rows is None else {k: r.copy() for k, r in zip(masked, rows, strict=False)}
