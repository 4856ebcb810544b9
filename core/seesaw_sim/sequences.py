"""The state of one request in the simulator, and its times."""

from collections.abc import Callable

from seesaw_core.planner.workloads import Request


class Sequence:
    """A request's state. Units: tokens; times in seconds on the virtual clock.

    ``prompt_left`` tokens are yet to be computed, ``output_left`` yet to be sampled. ``context`` is
    the size of its KV at the engine's round ``since_round``, with room for ``prompt_left``. Of a
    prompt that waits, ``cached`` tokens need not be computed. Its last token is sampled in round
    ``ends_round``.
    """

    __slots__ = (
        "arrival_s",
        "cached",
        "context",
        "ends_round",
        "finished_s",
        "first_token_s",
        "group",
        "is_running",
        "name",
        "number",
        "on_finished",
        "output_left",
        "prompt_left",
        "request",
        "since_round",
    )

    def __init__(self, number: int, request: Request) -> None:
        self.number = number
        self.name = str(number)
        self.request = request
        self.arrival_s = request.arrival_s
        self.first_token_s: float | None = None
        self.finished_s: float | None = None
        self.prompt_left = request.prompt_tokens
        self.output_left = request.output_tokens
        self.cached = request.cached_tokens
        self.context = 0
        self.since_round = 0
        self.ends_round = 0
        self.group = 0
        self.is_running = False
        self.on_finished: Callable[[], None] | None = None

    def finish(self, now_s: float) -> None:
        """Record that the last token has been sampled."""
        self.finished_s = now_s
        if self.on_finished is not None:
            self.on_finished()

    @property
    def prompt_tokens(self) -> int:
        return self.request.prompt_tokens
