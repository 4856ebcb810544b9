"""vLLM's executor over all instances: iterations of different groups run at the same time.

An iteration has ended when all its instances have answered, or are lost. After one that has failed
its instances connect anew and go on.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict, dataclass
from typing import Any

from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.executor.abstract import Executor
from vllm.v1.kv_cache_interface import KVCacheConfig

from seesaw_core.errors import EngineDiedError
from seesaw_worker.modes.elastic.instance import share_of
from seesaw_worker.modes.elastic.instances import Instances
from seesaw_worker.modes.elastic.measuring import costs_of, measure_costs
from seesaw_worker.modes.elastic.settings import InstanceSettings
from seesaw_worker.modes.elastic.tasks import (
    ElasticOutput,
    ElasticStep,
    Ended,
    Launch,
    Task,
    TaskResult,
)

# How long a step waits for iterations before the engine looks after new requests again.
_WAIT_S = 0.005
# How many times as long as expected an iteration may take.
_LATE = 5.0


@dataclass(slots=True, kw_only=True)
class _Running:
    began_s: float
    answers: dict[int, "Future[TaskResult]"]

    @property
    def is_done(self) -> bool:
        return all(answer.done() for answer in self.answers.values())


class _Deferred(Future[Any]):
    """A future that does its work when it is asked for its result."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__()
        self._work = work

    def result(self, timeout: float | None = None) -> Any:
        return self._work()


class ElasticExecutor(Executor):
    """Implements vLLM's ``Executor``; configured by ``distributed_executor_backend``."""

    supports_pp = False

    def _init_executor(self) -> None:
        self.settings = InstanceSettings.of(self.vllm_config.additional_config)
        self._running: dict[int, _Running] = {}
        self._memory: list[int] = []
        self._snapshot: Callable[[], dict[str, Any]] = dict
        self._instances = Instances(self.vllm_config, self.settings)

    # ---- vLLM's calls while the engine starts ----

    def determine_available_memory(self) -> list[int]:
        """Return the memory of all instances together for each rank, as if it were its own.

        So vLLM holds a request's longest length against the whole pool.
        """
        self._memory = super().determine_available_memory()
        return [num_bytes * self.settings.num_instances for num_bytes in self._memory]

    def initialize_from_config(self, kv_cache_configs: list[KVCacheConfig]) -> None:
        """Give each instance its share of the pool."""
        configs = [
            share_of(config, self.vllm_config, memory, self.settings.num_instances)
            for config, memory in zip(kv_cache_configs, self._memory, strict=True)
        ]
        size, number = self.settings.tensor, self.settings.num_instances
        block_size = kv_cache_configs[0].kv_cache_groups[0].kv_cache_spec.block_size
        tokens = (kv_cache_configs[0].num_blocks // number * block_size,) * number
        self._snapshot = lambda: {"capacity_tokens": tokens, "free_tokens": tokens}
        self._instances.call_each(
            "initialize_from_config",
            [(configs[i * size : (i + 1) * size],) for i in range(number)],
        )

    def compile_or_warm_up_model(self) -> None:
        super().compile_or_warm_up_model()
        number = self.settings.num_instances
        if self.settings.weights_folder:  # all use those of the first
            for group in (range(1), range(1, number)):
                for answer in [self._instances.call(i, "elastic_share_weights") for i in group]:
                    answer.result()
        self.collective_rpc("elastic_prepare")
        for answer in self._instances.connect(range(number)):
            answer.result()
        measure_costs(self.vllm_config, number, self.run_group)
        self.collective_rpc("elastic_count_anew")

    # ---- steps ----

    def execute_model(self, scheduler_output: SchedulerOutput, non_block: bool = False) -> Any:
        """Launch the step's iterations, and return those that end next, if one does soon."""
        step = scheduler_output.kv_connector_metadata
        assert isinstance(step, ElasticStep)
        self._snapshot = step.snapshot
        for launch in step.launches:
            self._running[launch.number] = _Running(
                began_s=time.monotonic(), answers=self._begin(launch.tasks, self._timeout_s(launch))
            )
        return _Deferred(self._next_ended) if non_block else self._next_ended()

    def run_group(self, tasks: dict[int, Task]) -> dict[int, TaskResult]:
        """Run one iteration to its end, before requests are served. Raises: EngineDiedError."""
        answers = self._begin(tasks, self.settings.step_timeout_s)
        return {i: answer.result() for i, answer in answers.items()}

    def _begin(
        self, tasks: Mapping[int, Task], timeout_s: float
    ) -> dict[int, "Future[TaskResult]"]:
        return {i: self._instances.run(i, task, timeout_s) for i, task in tasks.items()}

    def _timeout_s(self, launch: Launch) -> float:
        """Return the deadline of an iteration: later than the flag says if it will take long."""
        return max(self.settings.step_timeout_s, _LATE * launch.expected_s)

    def _next_ended(self) -> ElasticOutput:
        if not any(running.is_done for running in self._running.values()):
            pending = [a for r in self._running.values() for a in r.answers.values()]
            waiting = [answer for answer in pending if not answer.done()]
            wait(waiting, timeout=_WAIT_S, return_when=FIRST_COMPLETED)
        output = ElasticOutput(req_ids=[], req_id_to_index={})
        for number in [n for n, running in self._running.items() if running.is_done]:
            output.ended.append(self._ended(number, self._running.pop(number)))
        output.lost = self._instances.take_lost()
        return output

    def _ended(self, number: int, running: _Running) -> Ended:
        ended = Ended(number=number, seconds=time.monotonic() - running.began_s)
        failures = []
        for i, answer in running.answers.items():
            error = answer.exception()
            if error is None:
                ended.results[i] = answer.result()
            else:
                failures.append(str(error))
        if failures:
            ended.failure = "; ".join(failures)
            # Tasks that follow on the same instances wait for this in the instances' threads.
            self._instances.connect(running.answers)
        return ended

    # ---- what vLLM asks ----

    def collective_rpc(
        self,
        method: Any,
        timeout: float | None = None,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        non_block: bool = False,
    ) -> Any:
        """Call a method on every rank. Returns the ranks' answers, instance by instance.

        Three are answered here, since ranks answer only between two iterations: whether all is
        well, which the deadlines see to, the state of the mode, and what iterations cost.
        """
        if method == "check_health":
            self.check_health()
            return []
        if method == "elastic_costs":
            costs = costs_of(self.vllm_config, self.settings.num_instances)
            return [{degree: asdict(cost) for degree, cost in costs.prefill.items()}]
        if method == "elastic_state":
            lost = {str(i): why for i, why in self._instances.lost.items()}
            return [self._snapshot() | {"lost": lost}]
        each: Sequence[tuple[Any, ...]] = [args] * self.settings.num_instances
        answers = self._instances.call_each(method, each, timeout, kwargs)
        if non_block:
            future: Future[Any] = Future()
            future.set_result(answers)
            return future
        return answers

    def check_health(self) -> None:
        """Raises: EngineDiedError if no instance is left."""
        if not len(self._instances):
            raise EngineDiedError("all instances are lost")

    def register_failure_callback(self, callback: Callable[[], None]) -> None:
        self._instances.on_last_loss = callback

    def shutdown(self) -> None:
        if (instances := getattr(self, "_instances", None)) is not None:
            instances.shutdown()
