"""What follows when an iteration has ended, has failed, or an instance is lost."""

from vllm.v1.request import RequestStatus

from seesaw_core.elastic.view import Decode, Migrate
from seesaw_worker.modes.elastic.books import Books, Running
from seesaw_worker.modes.elastic.tasks import ElasticOutput, Ended

_ATTEMPTS = 3  # iterations of a request that may fail before it ends with an error


class Ender:
    """Takes ended iterations out of the books. An instance is lost once no iteration is on it."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._to_lose: set[int] = set()

    def take(self, output: ElasticOutput) -> None:
        """Take in what the executor reports."""
        for ended in output.ended:
            self._end(ended)
        self._to_lose |= output.lost.keys()
        for instance in self._to_lose - self._busy():
            self._lose(instance)

    def _busy(self) -> set[int]:
        """Instances on which something runs, or holds KV of a request that is being migrated."""
        books = self._books
        busy = {i for running in books.running.values() for i in running.instances}
        for running in books.running.values():
            if isinstance(running.step, Migrate):
                for key in running.keys:
                    busy |= books.driver.pool.placement(key).holders
        return busy

    def _end(self, ended: Ended) -> None:
        books = self._books
        running = books.running.pop(ended.number)
        books.is_changed = True
        for key in running.keys:
            del books.computing[key]
        if ended.failure:
            self._end_failed(running)
            return
        finished = []
        if not isinstance(running.step, Migrate):
            for instance, result in ended.results.items():
                books.composer.learn(instance, result)
            finished = books.answers.answer(running.keys, ended.results, books.requests)
            for key in running.keys:
                books.attempts.pop(key, None)
        for key in finished:
            del books.requests[key]
        gone = [key for key in running.keys if key not in books.requests]
        books.driver.end(running.step, finished)
        books.follow_cache()
        books.timeline.end(running.step, running.keys, books.driver.pool)
        for key in gone:
            books.forget(key)

    def _end_failed(self, running: Running) -> None:
        """Let requests try again; those that keep failing end with an error."""
        books, step = self._books, running.step
        books.totals.failures += 1
        if isinstance(step, Migrate):
            for key in running.keys:
                books.composer.suspect(key, step.instances)
        books.driver.fail(step)
        books.follow_cache()
        books.timeline.fail(step, running.keys)
        books.composer.distrust(running.keys)
        if isinstance(step, Decode):
            self._cut(step)
        for key in running.keys:
            if not isinstance(step, Decode):
                books.composer.release(key)
            if (request := books.requests.get(key)) is None:
                books.forget(key)
                continue
            books.attempts[key] = books.attempts.get(key, 0) + 1
            if books.attempts[key] >= _ATTEMPTS:
                books.fail(request)

    def _cut(self, step: Decode) -> None:
        """The masters of a decode iteration that failed may have kept the KV of its tokens."""
        pool = self._books.driver.pool
        for key, master in step.masters.items():
            if key in pool:
                held = pool.placement(key).tokens_by_instance()
                self._books.composer.cut(key, master, held.get(master, 0))

    def _lose(self, instance: int) -> None:
        """An instance is gone. Requests with KV on it start again from their tokens so far."""
        books = self._books
        self._to_lose.discard(instance)
        lost = books.driver.lose(instance)
        books.follow_cache()
        for key in lost:
            books.composer.release(key)
            books.attempts.pop(key, None)
            books.requests[key].status = RequestStatus.PREEMPTED
        books.composer.lose(instance)
        for request in list(books.requests.values()):
            if not books.driver.may_fit(request.num_tokens):
                books.fail(request)
