"""How many requests go through one cycle of prefill and decode, where phases have a longest time.

A prefill phase ends when the buffer is full or running requests stood still too long, a decode
phase when the buffer is nearly empty or prompts waited too long; see
:mod:`seesaw_core.resharding.policy`.
"""

from dataclasses import dataclass
from math import ceil

_ROUNDING = 1e-6  # rounding of floats must not add a whole cycle


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What a phase gets done before it has to end. Units: requests.

    ``prefilled`` is what one prefill phase computes, ``decoded`` what one decode phase finishes
    while prompts wait; ``buffer`` holds as many, and ``running`` are on the devices besides.
    """

    prefilled: float
    decoded: float
    buffer: float
    running: float

    def wave(self, count: float | None) -> float:
        """Mean requests of a cycle, over ``count`` that come at once; None for no end.

        As long as prefill is ahead of decoding, the buffer fills, and prefill phases are whole;
        once it is full, each can but replace what the last decode phase took out. When no prompt
        waits any more, the last decode phase ends all, however much is left.
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
