"""Running estimates of rates and durations from measurements."""

# Of waves and transitions, which take seconds: a change of load shows after a few of them, and one
# odd measurement moves an estimate by a sixth.
_HALF_LIFE = 4.0


class Rate:
    """An exponentially weighted rate of ``amount`` per second.

    ``half_life`` is the number of observations after which an old one counts half.
    """

    def __init__(self, half_life: float = _HALF_LIFE) -> None:
        self._keep = 0.5 ** (1.0 / half_life)
        self._amount = 0.0
        self._seconds = 0.0

    def observe(self, amount: float, seconds: float) -> None:
        """Add one measurement. Measurements without extent are ignored."""
        if amount <= 0 or seconds <= 0:
            return
        self._amount = self._keep * self._amount + amount
        self._seconds = self._keep * self._seconds + seconds

    @property
    def per_s(self) -> float | None:
        return self._amount / self._seconds if self._seconds else None


class ExponentialMean:
    """An exponentially weighted mean of seconds."""

    def __init__(self, half_life: float = _HALF_LIFE) -> None:
        self._rate = Rate(half_life)

    def observe(self, seconds: float) -> None:
        self._rate.observe(seconds, 1.0)

    @property
    def seconds(self) -> float | None:
        return self._rate.per_s
