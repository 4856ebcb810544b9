"""Prefill windows of one replica: when the last one began, and how often one begins.

The wave policy lets replicas take turns by these times. Router and simulator share this module.
Pure: time is an argument.
"""

from seesaw_core.rates import ExponentialMean


class PrefillWindows:
    """The times of one replica's prefill windows. Units: seconds.

    Call order: :meth:`opened` whenever a window begins; the rest at any time.
    """

    def __init__(self) -> None:
        self._began_s: float | None = None
        self._cycle = ExponentialMean()

    def opened(self, now_s: float) -> None:
        """Note that a window has begun. Requires: times that do not decrease."""
        if self._began_s is not None:
            self._cycle.observe(now_s - self._began_s)
        self._began_s = now_s

    def age_s(self, now_s: float) -> float | None:
        """Returns the time since the last window began, or None before the first one."""
        return None if self._began_s is None else now_s - self._began_s

    @property
    def cycle_s(self) -> float | None:
        """The mean time from one window to the next, or None before the second one."""
        return self._cycle.seconds
