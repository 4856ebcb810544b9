"""vLLM's scheduler over elastic instances: the driver plans, this carries plans to the executor.

One step of vLLM's engine launches the iterations of a plan and takes those that have ended, of any
group. So a group's iteration lasts over as many steps as it takes, and others begin and end
meanwhile.
"""

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from vllm.config import VllmConfig
from vllm.utils.import_utils import resolve_obj_by_qualname
from vllm.v1.core.sched.interface import PauseState
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.engine import EngineCoreEventType, EngineCoreOutputs
from vllm.v1.kv_cache_interface import KVCacheConfig
from vllm.v1.metrics.stats import PrefixCacheStats, SchedulerStats
from vllm.v1.request import Request, RequestStatus
from vllm.v1.structured_output import StructuredOutputManager

from seesaw_core.elastic.cache import CacheCounts
from seesaw_core.elastic.driver import ElasticDriver
from seesaw_worker.modes.elastic.absent import WithoutParts
from seesaw_worker.modes.elastic.admission import Admission
from seesaw_worker.modes.elastic.answers import Answers
from seesaw_worker.modes.elastic.books import Books
from seesaw_worker.modes.elastic.composing import TaskComposer
from seesaw_worker.modes.elastic.ending import Ender
from seesaw_worker.modes.elastic.launching import Launcher
from seesaw_worker.modes.elastic.measuring import costs_of
from seesaw_worker.modes.elastic.settings import InstanceSettings
from seesaw_worker.modes.elastic.tasks import ElasticOutput, ElasticStep

_PLAN_AGAIN_S = 0.05


class ElasticScheduler(WithoutParts):
    """Implements vLLM's ``SchedulerInterface``; configured by ``scheduler_cls``."""

    def __init__(
        self,
        vllm_config: VllmConfig,
        kv_cache_config: KVCacheConfig,
        structured_output_manager: StructuredOutputManager,
        block_size: int,
        hash_block_size: int = 0,
        *_: Any,
        log_stats: bool = False,
        **__: Any,
    ) -> None:
        settings = InstanceSettings.of(vllm_config.additional_config)
        number = settings.num_instances
        capacity = kv_cache_config.num_blocks // number * block_size
        is_caching = bool(vllm_config.cache_config.enable_prefix_caching)
        max_model_len = vllm_config.model_config.max_model_len
        self.books = Books(
            driver=ElasticDriver(
                resolve_obj_by_qualname(settings.policy)(),
                costs_of(vllm_config, number),
                [capacity] * number,
                block_tokens=hash_block_size if is_caching else 0,
            ),
            composer=TaskComposer(number),
            admission=Admission(vllm_config.scheduler_config.max_num_seqs),
            answers=Answers(structured_output_manager, max_model_len),
        )
        self._launcher = Launcher(self.books, structured_output_manager, log_stats=log_stats)
        self._ender = Ender(self.books)
        self._planned_s = 0.0
        self._log_stats = log_stats
        self._pause_state = PauseState.UNPAUSED
        self._is_cache_reset = False
        self._reported_counts = CacheCounts()

    # ---- requests come and go ----

    def add_request(self, request: Request) -> None:
        self.books.requests[request.request_id] = request
        self.books.admission.add(request)
        self.books.is_changed = True
        if self._log_stats:
            request.record_event(EngineCoreEventType.QUEUED)

    def finish_requests(
        self, request_ids: str | Iterable[str] | None, finished_status: RequestStatus
    ) -> list[Request]:
        requests = self.books.requests
        if request_ids is None:
            request_ids = list(requests)
        elif isinstance(request_ids, str):
            request_ids = [request_ids]
        ended = [r for i in list(request_ids) if (r := requests.get(i)) is not None]
        for request in ended:
            request.status = finished_status
            self.books.drop(request)
        return ended

    # ---- a step: what begins, and what has ended ----

    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        output = SchedulerOutput.make_empty()
        step = ElasticStep()
        if self._pause_state is not PauseState.PAUSED_ALL:
            now_s = time.monotonic()
            self._admit(now_s)
            if self.books.is_changed or now_s - self._planned_s > _PLAN_AGAIN_S:
                self._planned_s = now_s
                self._launcher.plan(now_s, step, output)
        step.snapshot = self.books.snapshot
        output.kv_connector_metadata = step
        return output

    def _admit(self, now_s: float) -> None:
        driver = self.books.driver
        if self._pause_state is PauseState.UNPAUSED:
            for request in self.books.admission.admit(len(driver)):
                if driver.may_fit(request.num_tokens):
                    hashes = request.block_hashes if _may_be_cached(request) else []
                    driver.arrive(request.request_id, request.num_tokens, now_s, hashes)
                else:
                    self.books.fail(request)

    def update_from_output(
        self, scheduler_output: SchedulerOutput, model_runner_output: Any
    ) -> dict[int, EngineCoreOutputs]:
        assert isinstance(model_runner_output, ElasticOutput)
        self._ender.take(model_runner_output)
        for request in self.books.admission.take_failed():
            self.books.fail(request)
        outputs = self.books.answers.take()
        if self._log_stats and (model_runner_output.ended or outputs):
            first = next(iter(outputs.values()), None)
            if first is None:
                first = outputs[0] = EngineCoreOutputs()
            first.scheduler_stats = self.make_stats()
        return outputs

    # ---- what vLLM asks ----

    def get_num_unfinished_requests(self) -> int:
        if self._pause_state is PauseState.PAUSED_ALL:
            return 0
        if self._pause_state is PauseState.PAUSED_NEW:
            return len(self.books.driver)
        return len(self.books.requests)

    def has_finished_requests(self) -> bool:
        """Iterations under way are work, even if their requests have gone."""
        return bool(self.books.running)

    @property
    def pause_state(self) -> PauseState:
        return self._pause_state

    def set_pause_state(self, pause_state: PauseState) -> None:
        self._pause_state = pause_state

    def reset_prefix_cache(
        self, reset_running_requests: bool = False, reset_connector: bool = False
    ) -> bool:
        """Forget the KV of requests that have ended. Running ones share none, and keep theirs."""
        self.books.driver.reset_cache()
        self.books.follow_cache()
        self._is_cache_reset = True
        return True

    def get_request_counts(self) -> tuple[int, int]:
        num_waiting = self.books.num_waiting
        return max(0, len(self.books.requests) - num_waiting), num_waiting

    def get_kv_cache_usage(self) -> float:
        pool = self.books.driver.pool
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
            prefix_cache_stats=self._cache_stats(),
        )

    def _cache_stats(self) -> PrefixCacheStats:
        """Return what has happened in the prefix cache since the last call."""
        now, before = self.books.driver.cache.counts, self._reported_counts
        stats = PrefixCacheStats(
            reset=self._is_cache_reset,
            requests=now.num_requests - before.num_requests,
            queries=now.queries - before.queries,
            hits=now.hits - before.hits,
            preempted_requests=now.again_requests - before.again_requests,
            preempted_queries=now.again_queries - before.again_queries,
            preempted_hits=now.again_hits - before.again_hits,
        )
        self._reported_counts, self._is_cache_reset = replace(now), False
        return stats


def _may_be_cached(request: Request) -> bool:
    """Whether a request needs no token of its prompt to be computed but the last."""
    params = request.sampling_params
    wants_logprobs = params is not None and params.prompt_logprobs is not None
    return not request.skip_reading_prefix_cache and not wants_logprobs
