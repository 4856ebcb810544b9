"""How a worker may fail a request.

What matters to whoever tries again is what the worker may have done with the request: nothing
(it was never sent), anything (the worker was lost while it had it), or it said no itself.
"""

from enum import StrEnum

from seesaw_router.dispatch.backend import Backend


class Failure(StrEnum):
    """Why a worker has not answered a request."""

    UNREACHED = "unreached"  # nothing of the request was sent
    LOST = "lost"
    SILENT = "silent"
    MALFORMED = "malformed"
    UNAVAILABLE = "unavailable"  # it said so: 502, 503 or 504
    ERROR = "error"  # it said so, and was only being tried

    @property
    def held_it(self) -> bool:
        """Whether the worker had the request, and may have come to harm by it."""
        return self in (Failure.LOST, Failure.SILENT, Failure.MALFORMED)


class WorkerError(Exception):
    """A worker has failed a request."""

    def __init__(self, backend: Backend, failure: Failure, problem: str) -> None:
        super().__init__(f"worker {backend.target.name} {problem}")
        self.backend = backend
        self.failure = failure

    def last_of(self, num_workers: int) -> "WorkerError":
        """Returns the error for a request that is given up since it may be what ends workers."""
        problem = str(self).removeprefix(f"worker {self.backend.target.name} ")
        return WorkerError(
            self.backend,
            self.failure,
            f"{problem}; {num_workers} attempts ended so while a worker had this request, and "
            "it is not tried again",
        )
