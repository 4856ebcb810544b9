"""vLLM's executor over all instances: iterations of different groups run at the same time.

Each instance is an executor of vLLM's of its own, with one thread that talks to it. An iteration
has ended when all its instances have answered, or are lost: an instance is lost when a process of
it dies, or when it does not answer by the deadline. The others connect anew and go on.
"""

import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.executor.abstract import Executor
from vllm.v1.kv_cache_interface import KVCacheConfig

from seesaw_core.errors import EngineDiedError
from seesaw_worker.modes.elastic.instance import Instance, config_of, share_of
from seesaw_worker.modes.elastic.measuring import measure_costs
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
        number = self.settings.num_instances
        self._threads = [
            ThreadPoolExecutor(1, thread_name_prefix=f"instance-{i}") for i in range(number)
        ]
        self._failure_callback: Callable[[], None] | None = None
        self._lock = threading.Lock()
        self._lost: dict[int, str] = {}
        self._reported: set[int] = set()
        self._running: dict[int, _Running] = {}
        self._memory: list[int] = []
        self._num_connections = 0
        self._folder = Path(tempfile.mkdtemp(prefix="elastic-"))
        self._snapshot: Callable[[], dict[str, Any]] = dict
        starting = [
            thread.submit(Instance, config_of(self.vllm_config, self.settings, i))
            for i, thread in enumerate(self._threads)
        ]
        wait(starting)
        self._instances: list[Instance] = []
        try:
            self._instances += [future.result() for future in starting]
        except Exception:
            for future in starting:
                if future.exception() is None:
                    future.result().lose()
            raise
        for i, instance in enumerate(self._instances):
            instance.on_loss = self._loss_of(i)

    # ---- vLLM's calls while the engine starts ----

    def determine_available_memory(self) -> list[int]:
        """Return the memory of all instances together for each rank, as if it were its own.

        So vLLM holds a request's longest length against the whole pool.
        """
        self._memory = super().determine_available_memory()
        return [num_bytes * self.settings.num_instances for num_bytes in self._memory]

    def initialize_from_config(self, kv_cache_configs: list[KVCacheConfig]) -> None:
        """Give each instance its share of the pool, then connect them."""
        configs = [
            share_of(config, self.vllm_config, memory, self.settings.num_instances)
            for config, memory in zip(kv_cache_configs, self._memory, strict=True)
        ]
        size, number = self.settings.tensor, self.settings.num_instances
        block_size = kv_cache_configs[0].kv_cache_groups[0].kv_cache_spec.block_size
        tokens = (kv_cache_configs[0].num_blocks // number * block_size,) * number
        self._snapshot = lambda: {"capacity_tokens": tokens, "free_tokens": tokens}
        self._on_each(
            "initialize_from_config",
            [(configs[i * size : (i + 1) * size],) for i in range(self.settings.num_instances)],
        )

    def compile_or_warm_up_model(self) -> None:
        super().compile_or_warm_up_model()
        if self.settings.weights_folder:
            self._share_weights()
        self.collective_rpc("elastic_prepare")
        everyone = range(self.settings.num_instances)
        for answer in self._connect(everyone):
            answer.result()
        measure_costs(self.vllm_config, self.settings.num_instances, self.run_group)
        self.collective_rpc("elastic_count_anew")

    def _share_weights(self) -> None:
        """Let all instances use the weights of the first."""
        self._threads[0].submit(self._call, 0, "elastic_share_weights", ()).result()
        sharing = [
            self._threads[i].submit(self._call, i, "elastic_share_weights", ())
            for i in range(1, self.settings.num_instances)
        ]
        for answer in sharing:
            answer.result()

    # ---- steps ----

    def execute_model(self, scheduler_output: SchedulerOutput, non_block: bool = False) -> Any:
        """Launch the step's iterations, and return those that end next, if one does soon."""
        step = scheduler_output.kv_connector_metadata
        assert isinstance(step, ElasticStep)
        self._snapshot = step.snapshot
        for launch in step.launches:
            self._launch(launch)
        return _Deferred(self._next_ended) if non_block else self._next_ended()

    def run_group(self, tasks: dict[int, Task]) -> dict[int, TaskResult]:
        """Run one iteration to its end, before requests are served. Raises: EngineDiedError."""
        timeout_s = self.settings.step_timeout_s
        answers = {
            i: self._threads[i].submit(self._run, i, task, timeout_s) for i, task in tasks.items()
        }
        return {i: answer.result() for i, answer in answers.items()}

    def _launch(self, launch: Launch) -> None:
        self._running[launch.number] = _Running(
            began_s=time.monotonic(),
            answers={
                i: self._threads[i].submit(self._run, i, task, self._timeout_s(launch))
                for i, task in launch.tasks.items()
            },
        )

    def _timeout_s(self, launch: Launch) -> float:
        """Return the deadline of an iteration: later than the flag says if it will take long."""
        return max(self.settings.step_timeout_s, _LATE * launch.expected_s)

    def _run(self, number: int, task: Task, timeout_s: float) -> TaskResult:
        """Let an instance carry out a task. Raises: EngineDiedError."""
        instance = self._instances[number]
        try:
            result: TaskResult = instance.collective_rpc(
                "elastic_run",
                timeout=timeout_s,
                args=(task,),
                unique_reply_rank=instance.output_rank,
            )
            return result
        except TimeoutError as error:
            self._lose(number, f"it has not answered for {timeout_s:g} s")
            instance.lose()
            raise EngineDiedError(f"instance {number} is lost: {self._lost[number]}") from error
        except Exception as error:
            if not instance.is_failed:
                raise EngineDiedError(f"instance {number} has failed: {error}") from error
            self._lose(number, "one of its processes has died")
            raise EngineDiedError(f"instance {number} is lost: {self._lost[number]}") from error

    def _next_ended(self) -> ElasticOutput:
        if not any(running.is_done for running in self._running.values()):
            pending = [a for r in self._running.values() for a in r.answers.values()]
            waiting = [answer for answer in pending if not answer.done()]
            wait(waiting, timeout=_WAIT_S, return_when=FIRST_COMPLETED)
        output = ElasticOutput(req_ids=[], req_id_to_index={})
        for number in [n for n, running in self._running.items() if running.is_done]:
            output.ended.append(self._ended(number, self._running.pop(number)))
        with self._lock:
            output.lost = {i: why for i, why in self._lost.items() if i not in self._reported}
            self._reported.update(output.lost)
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
            self._connect([i for i in running.answers if i not in self._lost])
        return ended

    def _connect(self, instances: Sequence[int]) -> list["Future[Any]"]:
        """Connect instances with each other, in their threads."""
        self._num_connections += 1
        rendezvous = str(self._folder / str(self._num_connections))
        return [
            self._threads[i].submit(
                self._call, i, "elastic_connect", ([j for j in instances if j != i], rendezvous)
            )
            for i in instances
        ]

    # ---- calls to all instances ----

    def collective_rpc(
        self,
        method: Any,
        timeout: float | None = None,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        non_block: bool = False,
    ) -> Any:
        """Call a method on every rank. Returns the ranks' answers, instance by instance.

        Two are answered here, since ranks answer only between two iterations: whether all is well,
        which the deadlines see to, and the state of the mode.
        """
        if method == "check_health":
            self.check_health()
            return []
        if method == "elastic_state":
            return [self._snapshot() | {"lost": {str(i): why for i, why in self._lost.items()}}]
        answers = self._on_each(method, [args] * self.settings.num_instances, timeout, kwargs)
        if non_block:
            future: Future[Any] = Future()
            future.set_result(answers)
            return future
        return answers

    def _on_each(
        self,
        method: Any,
        args: Sequence[tuple[Any, ...]],
        timeout: float | None = None,
        kwargs: dict[str, Any] | None = None,
    ) -> list[Any]:
        answers = [
            self._threads[i].submit(self._call, i, method, args[i], timeout, kwargs)
            for i in range(self.settings.num_instances)
            if i not in self._lost
        ]
        return [result for answer in answers for result in answer.result()]

    def _call(
        self,
        number: int,
        method: Any,
        args: tuple[Any, ...],
        timeout: float | None = None,
        kwargs: dict[str, Any] | None = None,
    ) -> list[Any]:
        results: list[Any] = self._instances[number].collective_rpc(method, timeout, args, kwargs)
        return results

    # ---- health ----

    def check_health(self) -> None:
        """Raises: EngineDiedError if no instance is left."""
        if len(self._lost) == self.settings.num_instances:
            raise EngineDiedError("all instances are lost")

    def register_failure_callback(self, callback: Callable[[], None]) -> None:
        self._failure_callback = callback

    def shutdown(self) -> None:
        for instance in self._instances:
            instance.shutdown()
        for thread in self._threads:
            thread.shutdown(wait=False)

    def _loss_of(self, number: int) -> Callable[[], None]:
        return lambda: self._lose(number, "one of its processes has died")

    def _lose(self, number: int, why: str) -> None:
        with self._lock:
            self._lost.setdefault(number, why)
            is_last = len(self._lost) == self.settings.num_instances
        if is_last and self._failure_callback is not None:
            self._failure_callback()
