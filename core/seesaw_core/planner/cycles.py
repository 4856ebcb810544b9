"""Requests per cycle of prefill and decode, where a timeout bounds both phases.

A prefill phase ends when the buffer is full or running requests stood still too long, a decode
phase when the buffer is nearly empty or prompts waited too long; see
:mod:`seesaw_core.resharding.policy`.
"""

from dataclasses import dataclass
from math import ceil

_ROUNDING = 1e-6  # rounding of floats must not add a whole cycle


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How much each phase completes before it has to end. Units: requests.

    ``prefilled`` is the work of one prefill phase, ``decoded`` that of one decode phase while
    prompts wait. ``buffer`` is the capacity of the KV buffer, ``running`` the requests on the
    devices.
    """

    prefilled: float
    decoded: float
    buffer: float
    running: float

    def wave(self, count: float | None) -> float:
        """Mean requests per cycle over ``count`` requests that arrive at once; None for no end.

        While prefill is faster than decoding, the buffer fills and prefill phases are complete.
        Once the buffer is full, a prefill phase can only replace what the last decode phase took
        out. When no prompt waits any more, one last decode phase finishes all requests.
        """
        steady = max(1.0, min(self.prefilled, self.decoded))
        if count is None:
            return steady
        whole = max(1.0, self.prefilled)
        if whole > steady:
            filling = 1 + max(0.0, self.buffer + self.running - whole) / (whole - steady)
        else:
            filling = count / whole
        cycles = min(count / whole, filling) + max(0.0, count - filling * whole) / steady
        return count / max(1, ceil(cycles - _ROUNDING))
