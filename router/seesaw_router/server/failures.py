"""The ways in which a worker can fail a request.

Whether to retry depends on what the worker may have done with the request: nothing (it was never
sent), anything (the worker was lost while it had the request), or the worker itself declined.
"""

from enum import StrEnum

from seesaw_router.dispatch.backend import Backend


class Failure(StrEnum):
    """Why a worker has not answered a request."""

    UNREACHED = "unreached"  # nothing of the request was sent
    LOST = "lost"
    SILENT = "silent"
    MALFORMED = "malformed"
    UNAVAILABLE = "unavailable"  # the worker answered 502, 503 or 504
    ERROR = "error"  # the worker answered another 5xx during its trial

    @property
    def had_request(self) -> bool:
        """Whether the worker had the request, which may have harmed it."""
        return self in (Failure.LOST, Failure.SILENT, Failure.MALFORMED)


class WorkerError(Exception):
    """A worker has failed a request."""

    def __init__(self, backend: Backend, failure: Failure, problem: str) -> None:
        super().__init__(f"worker {backend.target.name} {problem}")
        self.backend = backend
        self.failure = failure

    def given_up_after(self, num_workers: int) -> "WorkerError":
        """Returns the error for a request that is given up because it may be killing workers."""
        problem = str(self).removeprefix(f"worker {self.backend.target.name} ")
        return WorkerError(
            self.backend,
            self.failure,
            f"{problem}; {num_workers} attempts ended so while a worker had this request, and "
            "it is not tried again",
        )
