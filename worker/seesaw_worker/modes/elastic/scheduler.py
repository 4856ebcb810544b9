"""vLLM's scheduler over elastic instances: the driver plans, this carries plans to the executor.

One step of vLLM's engine launches the iterations of a plan and takes those that have ended, of any
group. So a group's iteration lasts over as many steps as it takes, and others begin and end
meanwhile.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vllm.config import VllmConfig
from vllm.utils.import_utils import resolve_obj_by_qualname
from vllm.v1.core.sched.interface import PauseState
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.engine import EngineCoreEventType, EngineCoreOutputs
from vllm.v1.kv_cache_interface import KVCacheConfig
from vllm.v1.metrics.stats import SchedulerStats
from vllm.v1.request import Request, RequestStatus
from vllm.v1.structured_output import StructuredOutputManager

from seesaw_core.elastic.driver import ElasticDriver
from seesaw_core.elastic.view import Decode, Migrate, Plan, Prefill, Step
from seesaw_worker.modes.elastic.absent import WithoutParts
from seesaw_worker.modes.elastic.admission import Admission
from seesaw_worker.modes.elastic.answers import Answers
from seesaw_worker.modes.elastic.composing import Mask, TaskComposer
from seesaw_worker.modes.elastic.measuring import costs_of
from seesaw_worker.modes.elastic.settings import InstanceSettings
from seesaw_worker.modes.elastic.tasks import ElasticOutput, ElasticStep, Ended, Launch, Task

_PLAN_AGAIN_S = 0.05
_ATTEMPTS = 3  # iterations of a request that may fail before it ends with an error


@dataclass(slots=True, kw_only=True)
class _Running:
    step: Step
    instances: tuple[int, ...]
    keys: tuple[str, ...]


@dataclass(slots=True)
class Totals:
    """Iterations so far, by kind and degree; the state of the mode shows them."""

    prefills: dict[int, int] = field(default_factory=dict)
    decodes: dict[int, int] = field(default_factory=dict)
    migrations: int = 0
    failures: int = 0

    def count(self, step: Step) -> None:
        if isinstance(step, Migrate):
            self.migrations += 1
            return
        counts = self.prefills if isinstance(step, Prefill) else self.decodes
        degree = len(step.instances)
        counts[degree] = counts.get(degree, 0) + 1


class ElasticScheduler(WithoutParts):
    """Implements vLLM's ``SchedulerInterface``; configured by ``scheduler_cls``."""

    def __init__(
        self,
        vllm_config: VllmConfig,
        kv_cache_config: KVCacheConfig,
        structured_output_manager: StructuredOutputManager,
        block_size: int,
        *_: Any,
        log_stats: bool = False,
        **__: Any,
    ) -> None:
        settings = InstanceSettings.of(vllm_config.additional_config)
        number = settings.num_instances
        capacity = kv_cache_config.num_blocks // number * block_size
        self.driver = ElasticDriver(
            resolve_obj_by_qualname(settings.policy)(),
            costs_of(vllm_config, number),
            [capacity] * number,
        )
        self.requests: dict[str, Request] = {}
        self.totals = Totals()
        self._admission = Admission(vllm_config.scheduler_config.max_num_seqs)
        self._answers = Answers(structured_output_manager, vllm_config.model_config.max_model_len)
        self._grammars = structured_output_manager
        self._composer = TaskComposer(number)
        self._running: dict[int, _Running] = {}
        self._computing: dict[str, int] = {}
        self._attempts: dict[str, int] = {}
        self._to_lose: set[int] = set()
        self._num_launched = 0
        self._is_changed, self._planned_s = True, 0.0
        self._log_stats = log_stats
        self._pause_state = PauseState.UNPAUSED

    # ---- requests come and go ----

    def add_request(self, request: Request) -> None:
        self.requests[request.request_id] = request
        self._admission.add(request)
        self._is_changed = True
        if self._log_stats:
            request.record_event(EngineCoreEventType.QUEUED)

    def finish_requests(
        self, request_ids: str | Iterable[str] | None, finished_status: RequestStatus
    ) -> list[Request]:
        if request_ids is None:
            request_ids = list(self.requests)
        elif isinstance(request_ids, str):
            request_ids = [request_ids]
        ended = [r for i in list(request_ids) if (r := self.requests.get(i)) is not None]
        for request in ended:
            request.status = finished_status
            self._drop(request)
        return ended

    def _drop(self, request: Request) -> None:
        """A request ends outside of an iteration that computes it, or while one does."""
        key = request.request_id
        del self.requests[key]
        self._attempts.pop(key, None)
        self._is_changed = True
        if not self._admission.remove(key):
            self.driver.abort(key)
            if key not in self._computing:
                self._composer.forget(key)

    # ---- a step: plan and launch ----

    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        output = SchedulerOutput.make_empty()
        step = ElasticStep()
        if self._pause_state is not PauseState.PAUSED_ALL:
            now_s = time.monotonic()
            self._admit(now_s)
            if self._is_changed or now_s - self._planned_s > _PLAN_AGAIN_S:
                self._plan(now_s, step, output)
        step.snapshot = self.snapshot
        output.kv_connector_metadata = step
        return output

    def _admit(self, now_s: float) -> None:
        if self._pause_state is PauseState.UNPAUSED:
            for request in self._admission.admit(len(self.driver)):
                if self.driver.may_fit(request.num_tokens):
                    self.driver.arrive(request.request_id, request.num_tokens, now_s)
                else:
                    self._fail(request)

    def _plan(self, now_s: float, step: ElasticStep, output: SchedulerOutput) -> None:
        self._planned_s, self._is_changed = now_s, False
        while True:
            plan = self.driver.next_plan(now_s)
            self._carry_out(plan, step, output)
            if not plan.preemptions:
                return

    def _carry_out(self, plan: Plan, step: ElasticStep, output: SchedulerOutput) -> None:
        for preemption in plan.preemptions:
            self._preempt(self.requests[preemption.key])
        computed: tuple[Step, ...] = (*plan.prefills, *plan.decodes)
        masks = self._masks([key for each in computed for key in keys_of(each)])
        for migration in plan.migrations:
            self._launch(step, migration, self._composer.migrate(migration, self.driver.moves))
        for prefill in plan.prefills:
            tasks = self._composer.prefill(prefill, self.requests, masks)
            self._launch(step, prefill, tasks)
            for key in prefill.placements:
                self._begin(self.requests[key], output)
        for decode in plan.decodes:
            placements = {key: self.driver.pool.placement(key) for key in decode.masters}
            tasks = self._composer.decode(decode, self.requests, placements, masks)
            self._launch(step, decode, tasks)
            output.num_scheduled_tokens.update(dict.fromkeys(decode.masters, 1))
        output.total_num_scheduled_tokens = sum(output.num_scheduled_tokens.values())

    def _begin(self, request: Request, output: SchedulerOutput) -> None:
        """A request is prefilled now."""
        if request.status is not RequestStatus.PREEMPTED and request.prefill_stats is not None:
            request.prefill_stats.set(request.num_prompt_tokens, 0, 0)
        if self._log_stats:
            request.record_event(EngineCoreEventType.SCHEDULED)
        request.status = RequestStatus.RUNNING
        output.num_scheduled_tokens[request.request_id] = request.num_tokens

    def _preempt(self, request: Request) -> None:
        self._composer.release(request.request_id)
        request.status = RequestStatus.PREEMPTED
        request.num_preemptions += 1
        if self._log_stats:
            request.record_event(EngineCoreEventType.PREEMPTED)

    def _launch(self, step: ElasticStep, planned: Step, tasks: dict[int, Task]) -> None:
        self._num_launched += 1
        number, keys = self._num_launched, keys_of(planned)
        expected_s = self._expected_s(planned)
        step.launches.append(Launch(number=number, tasks=tasks, expected_s=expected_s))
        self._running[number] = _Running(step=planned, instances=tuple(tasks), keys=keys)
        self._computing.update(dict.fromkeys(keys, number))
        self.totals.count(planned)

    def _expected_s(self, planned: Step) -> float:
        if not isinstance(planned, Prefill):
            return 0.0
        lengths = [placement.num_tokens for placement in planned.placements.values()]
        return self.driver.costs.prefill[len(planned.instances)].seconds(lengths)

    def _masks(self, keys: Iterable[str]) -> dict[str, Mask]:
        """Return what the grammars of requests with structured output allow next."""
        masked = [key for key in keys if self.requests[key].use_structured_output]
        if not masked:
            return {}
        rows = self._grammars.grammar_bitmask(self.requests, masked, {})
        return {} if rows is None else {k: r.copy() for k, r in zip(masked, rows, strict=False)}

    # ---- a step: what has ended ----

    def update_from_output(
        self, scheduler_output: SchedulerOutput, model_runner_output: Any
    ) -> dict[int, EngineCoreOutputs]:
        assert isinstance(model_runner_output, ElasticOutput)
        for ended in model_runner_output.ended:
            self._end(ended)
        self._to_lose |= model_runner_output.lost.keys()
        busy = {i for running in self._running.values() for i in running.instances}
        for instance in self._to_lose - busy:
            self._lose(instance)
        for request in self._admission.take_failed():
            self._fail(request)
        outputs = self._answers.take()
        if self._log_stats and (model_runner_output.ended or outputs):
            first = next(iter(outputs.values()), None)
            if first is None:
                first = outputs[0] = EngineCoreOutputs()
            first.scheduler_stats = self.make_stats()
        return outputs

    def _end(self, ended: Ended) -> None:
        running = self._running.pop(ended.number)
        self._is_changed = True
        if ended.failure:
            self._end_failed(running)
            return
        for key in running.keys:
            del self._computing[key]
        finished = []
        if not isinstance(running.step, Migrate):
            for instance, result in ended.results.items():
                self._composer.learn(instance, result)
            finished = self._answers.answer(running.keys, ended.results, self.requests)
        for key in finished:
            self._attempts.pop(key, None)
            del self.requests[key]
        gone = [key for key in running.keys if key not in self.requests]
        self.driver.end(running.step, finished)
        for key in gone:
            self._composer.forget(key)

    def _end_failed(self, running: _Running) -> None:
        """Let requests try again; those that keep failing end with an error."""
        self.totals.failures += 1
        step = running.step
        for key in running.keys:
            del self._computing[key]
            if isinstance(step, Migrate):
                self._composer.suspect(key, step.instances)
        self.driver.fail(step)
        self._composer.distrust(running.keys)
        if isinstance(step, Decode):
            for key, master in step.masters.items():
                if key in self.driver.pool:
                    held = self.driver.pool.placement(key).tokens_by_instance()
                    self._composer.cut(key, master, held.get(master, 0))
        for key in running.keys:
            if not isinstance(step, Decode):
                self._composer.release(key)
            if (request := self.requests.get(key)) is None:
                self._composer.forget(key)
                continue
            self._attempts[key] = self._attempts.get(key, 0) + 1
            if self._attempts[key] >= _ATTEMPTS:
                self._fail(request)

    def _lose(self, instance: int) -> None:
        """An instance is gone. Requests with KV on it start again from their tokens so far."""
        self._to_lose.discard(instance)
        for key in self.driver.lose(instance):
            self._composer.release(key)
            self._attempts.pop(key, None)
            self.requests[key].status = RequestStatus.PREEMPTED
        self._composer.lose(instance)
        for request in list(self.requests.values()):
            if not self.driver.may_fit(request.num_tokens):
                self._fail(request)

    def _fail(self, request: Request) -> None:
        """End a request with an error, which its client hears of."""
        request.status = RequestStatus.FINISHED_ERROR
        self._drop(request)
        self._answers.refuse(request)

    # ---- what vLLM asks ----

    def get_num_unfinished_requests(self) -> int:
        if self._pause_state is PauseState.PAUSED_ALL:
            return 0
        if self._pause_state is PauseState.PAUSED_NEW:
            return len(self.driver)
        return len(self.requests)

    def has_finished_requests(self) -> bool:
        """Iterations under way are work, even if their requests have gone."""
        return bool(self._running)

    @property
    def pause_state(self) -> PauseState:
        return self._pause_state

    def set_pause_state(self, pause_state: PauseState) -> None:
        self._pause_state = pause_state

    def get_request_counts(self) -> tuple[int, int]:
        num_waiting = self.driver.num_waiting + len(self._admission)
        return max(0, len(self.requests) - num_waiting), num_waiting

    def get_kv_cache_usage(self) -> float:
        pool = self.driver.pool
        capacity = sum(pool.capacity_tokens)
        return 1 - sum(pool.free_tokens) / capacity if capacity else 1.0

    def make_stats(self) -> SchedulerStats | None:
        if not self._log_stats:
            return None
        num_running, num_waiting = self.get_request_counts()
        return SchedulerStats(
            num_running_reqs=num_running,
            num_waiting_reqs=num_waiting,
            kv_cache_usage=self.get_kv_cache_usage(),
        )

    def snapshot(self) -> dict[str, Any]:
        """Return the state of the mode, as plain values."""
        pool = self.driver.pool
        return {
            "capacity_tokens": pool.capacity_tokens,
            "free_tokens": pool.free_tokens,
            "groups": [
                {
                    "kind": type(r.step).__name__.lower(),
                    "instances": r.instances,
                    "requests": len(r.keys),
                }
                for r in self._running.values()
            ],
            "num_waiting": self.driver.num_waiting + len(self._admission),
            "waiting_tokens": self._admission.num_tokens + self.driver.waiting_tokens,
            "num_running": len(self.driver) - self.driver.num_waiting,
            "prefills": {str(degree): n for degree, n in self.totals.prefills.items()},
            "decodes": {str(degree): n for degree, n in self.totals.decodes.items()},
            "failures": self.totals.failures,
            "preemptions": self.driver.num_preemptions,
            "restarts": self.driver.num_restarts,
            "migrations": self.totals.migrations,
            "migrated_tokens": pool.migrated_tokens,
        }


def keys_of(step: Step) -> tuple[str, ...]:
    """Return the requests of an iteration."""
    if isinstance(step, Migrate):
        return step.keys
    keys: Mapping[str, object] = step.placements if isinstance(step, Prefill) else step.masters
    return tuple(keys)
