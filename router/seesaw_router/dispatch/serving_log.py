"""Logs whether one worker serves, without flooding the log where it goes up and down."""

import logging
from math import inf

logger = logging.getLogger(__name__)

_SAME_NEWS_S = 60.0
_KIND_CHARACTERS = 60
_MOST_KINDS = 32


class ServingLog:
    """What was logged of one worker, and when.

    Call order: :meth:`note` after every change.
    """

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._logged: str | None = None
        self._logged_s: dict[str, float] = {}  # by kind of reason

    def note(self, reason: str, now_s: float) -> None:
        """Log why the worker does not serve, or that it does (an empty reason), if that is news."""
        if reason == self._logged or not self._is_news(reason, now_s):
            return
        self._logged = reason
        if reason:
            logger.warning("worker %s does not serve: %s", self._worker, reason)
        else:
            logger.info("worker %s serves", self._worker)

    def _is_news(self, reason: str, now_s: float) -> bool:
        """Returns whether to log it now: each kind once a minute, and what still holds then."""
        kind = reason.partition(":")[0][:_KIND_CHARACTERS]
        if now_s - self._logged_s.get(kind, -inf) < _SAME_NEWS_S:
            return False
        if len(self._logged_s) >= _MOST_KINDS:
            self._logged_s.clear()
        self._logged_s[kind] = now_s
        return True
