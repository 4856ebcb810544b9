"""All instances of an engine, each with one thread that talks to it.

An instance is lost when a process of it dies, or when it does not answer a task by the deadline.
"""

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from vllm.config import VllmConfig

from seesaw_core.errors import EngineDiedError
from seesaw_worker.modes.elastic.instance import Instance, config_of
from seesaw_worker.modes.elastic.settings import InstanceSettings
from seesaw_worker.modes.elastic.tasks import Task, TaskResult


class Instances:
    """What waits for an instance waits in its thread; calls of different ones overlap.

    ``on_last_loss`` is called, from any thread, when none is left.
    """

    def __init__(self, config: VllmConfig, settings: InstanceSettings) -> None:
        """Start all of them at once. Raises: whatever one raises; the others are ended then."""
        self.on_last_loss: Callable[[], None] | None = None
        self._number = settings.num_instances
        self._threads = [
            ThreadPoolExecutor(1, thread_name_prefix=f"instance-{i}") for i in range(self._number)
        ]
        self._lock = threading.Lock()
        self._lost: dict[int, str] = {}
        self._reported: set[int] = set()
        self._num_connections = 0
        self._folder = Path(tempfile.mkdtemp(prefix="elastic-"))
        starting = [
            thread.submit(Instance, config_of(config, settings, i))
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

    def __len__(self) -> int:
        """Instances that are not lost."""
        return self._number - len(self._lost)

    @property
    def lost(self) -> dict[int, str]:
        """Instances that are gone, each with the reason."""
        with self._lock:
            return dict(self._lost)

    def take_lost(self) -> dict[int, str]:
        """Return the instances that are gone, each with the reason, once."""
        lost = {i: why for i, why in self.lost.items() if i not in self._reported}
        self._reported.update(lost)
        return lost

    def run(self, number: int, task: Task, timeout_s: float) -> "Future[TaskResult]":
        """Let an instance carry out a task after what waits there. Fails with EngineDiedError."""
        return self._threads[number].submit(self._run, number, task, timeout_s)

    def connect(self, numbers: Iterable[int]) -> list["Future[Any]"]:
        """Connect those of these instances that are left with each other, after what waits."""
        self._num_connections += 1
        rendezvous = str(self._folder / str(self._num_connections))
        left = [i for i in numbers if i not in self._lost]
        return [
            self.call(i, "elastic_connect", ([j for j in left if j != i], rendezvous)) for i in left
        ]

    def call(
        self,
        number: int,
        method: Any,
        args: tuple[Any, ...] = (),
        timeout: float | None = None,
        kwargs: dict[str, Any] | None = None,
    ) -> "Future[list[Any]]":
        """Call a method on every rank of an instance, after what waits there."""
        instance = self._instances[number]
        return self._threads[number].submit(instance.collective_rpc, method, timeout, args, kwargs)

    def call_each(
        self,
        method: Any,
        args: Sequence[tuple[Any, ...]] | None = None,
        timeout: float | None = None,
        kwargs: dict[str, Any] | None = None,
    ) -> list[Any]:
        """Call a method on every rank that is left, with ``args`` by instance.

        Returns the ranks' answers, instance by instance.
        """
        answers = [
            self.call(i, method, args[i] if args else (), timeout, kwargs)
            for i in range(self._number)
            if i not in self._lost
        ]
        return [result for answer in answers for result in answer.result()]

    def shutdown(self) -> None:
        for instance in self._instances:
            instance.shutdown()
        for thread in self._threads:
            thread.shutdown(wait=False)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, number: int, task: Task, timeout_s: float) -> TaskResult:
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

    def _loss_of(self, number: int) -> Callable[[], None]:
        return lambda: self._lose(number, "one of its processes has died")

    def _lose(self, number: int, why: str) -> None:
        with self._lock:
            self._lost.setdefault(number, why)
            is_last = len(self._lost) == self._number
        if is_last and self.on_last_loss is not None:
            self.on_last_loss()
