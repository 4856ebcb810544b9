"""Logs whether one worker serves, without flooding the log when that changes often."""

import logging
from math import inf

logger = logging.getLogger(__name__)

_REPEAT_AFTER_S = 60.0
_KIND_CHARACTERS = 60
_MAX_KINDS = 32


class ServingLog:
    """Logs changes of one worker, and remembers what it logged when.

    Call order: :meth:`note` after every change.
    """

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._logged: str | None = None
        self._logged_s: dict[str, float] = {}  # by kind of reason

    def note(self, reason: str, now_s: float) -> None:
        """Log why the worker does not serve, or that it does (an empty reason), if it is news."""
        if reason == self._logged or not self._is_news(reason, now_s):
            return
        self._logged = reason
        if reason:
            logger.warning("worker %s does not serve: %s", self._worker, reason)
        else:
            logger.info("worker %s serves", self._worker)

    def _is_news(self, reason: str, now_s: float) -> bool:
        """Returns whether to log a reason now: each kind of reason is logged once a minute."""
        kind = reason.partition(":")[0][:_KIND_CHARACTERS]
        if now_s - self._logged_s.get(kind, -inf) < _REPEAT_AFTER_S:
            return False
        if len(self._logged_s) >= _MAX_KINDS:
            self._logged_s.clear()
        self._logged_s[kind] = now_s
        return True
