"""Measures the costs that the phase policy decides by."""

from dataclasses import dataclass

from seesaw_core.messages import WaveEvent
from seesaw_core.rates import ExponentialMean, Rate
from seesaw_core.resharding.policy import Costs

_STRETCH_S = 1.0  # the rate is never much older than this, however steady the load
_LEAST_TOKENS = 128  # with fewer tokens, a step's fixed cost is most of its time


class CostMeter:
    """Measures transitions, waves and prefill in place."""

    def __init__(self) -> None:
        self.transition_s = ExponentialMean()
        self.prefill = Rate()
        self.in_place = InPlaceMeter()
        self.wave = Wave()
        self._num_waves = 0

    @property
    def costs(self) -> Costs:
        return Costs(
            transition_s=self.transition_s.seconds,
            prefill_tokens_per_s=self.prefill.per_s,
            in_place_tokens_per_s=self.in_place.rate.per_s,
        )

    def end_wave(self, now_s: float) -> WaveEvent | None:
        """Close the prefill phase that ends now. Returns None if it prefilled nothing."""
        wave, self.wave = self.wave, Wave()
        if not wave.prompts:
            return None
        if wave.tokens >= _LEAST_TOKENS:
            self.prefill.observe(wave.tokens, wave.busy_s)
        self._num_waves += 1
        return WaveEvent(
            number=self._num_waves,
            prompts=wave.prompts,
            tokens=wave.tokens,
            seconds=now_s - wave.began_s,
        )


@dataclass(slots=True, kw_only=True)
class Wave:
    """The running totals of one prefill phase."""

    began_s: float = 0.0
    prompts: int = 0
    tokens: int = 0
    busy_s: float = 0.0

    def add(self, tokens: int, now_s: float) -> None:
        self.prompts += 1
        self.tokens += tokens
        self.busy_s = now_s - self.began_s


class InPlaceMeter:
    """Measures how fast the decode engine prefills prompts in place.

    A stretch ends when no prompt is under way or after a while, so that the rate stays fresh under
    steady load. Stretches of few tokens are left out, since they show mostly fixed costs.
    """

    def __init__(self) -> None:
        self.rate = Rate()
        self._pending: dict[str, int] = {}
        self._done_tokens = 0
        self._began_s = 0.0

    def sent(self, request_id: str, tokens: int, now_s: float) -> None:
        if not self._pending:
            self._began_s, self._done_tokens = now_s, 0
        self._pending[request_id] = tokens

    def first_output(self, request_id: str, now_s: float) -> None:
        tokens = self._pending.pop(request_id, None)
        if tokens is None:
            return
        self._done_tokens += tokens
        elapsed_s = now_s - self._began_s
        if not self._pending or elapsed_s >= _STRETCH_S:
            if self._done_tokens >= _LEAST_TOKENS:
                self.rate.observe(self._done_tokens, elapsed_s)
            self._began_s, self._done_tokens = now_s, 0

    def forget(self, request_ids: set[str]) -> None:
        for request_id in request_ids:
            self._pending.pop(request_id, None)

    def interrupt(self) -> None:
        """Drop the prompts under way: their times would include a standstill of the engine."""
        self._pending.clear()
