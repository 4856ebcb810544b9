"""Running estimates follow what was measured, newer measurements more."""

import pytest

from seesaw_core.rates import ExponentialMean, Rate


def test_nothing_is_known_before_the_first_measurement() -> None:
    assert Rate().per_s is None
    assert ExponentialMean().seconds is None


def test_measurements_without_extent_are_ignored() -> None:
    rate = Rate()
    rate.observe(0, 1.0)
    rate.observe(1, 0.0)
    assert rate.per_s is None


def test_a_rate_weighs_by_how_long_was_measured() -> None:
    rate = Rate(half_life=1e9)
    rate.observe(100, 1.0)
    rate.observe(300, 9.0)
    assert rate.per_s == pytest.approx(40.0)


def test_after_its_half_life_a_measurement_counts_half() -> None:
    mean = ExponentialMean(half_life=1.0)
    mean.observe(4.0)
    mean.observe(1.0)
    assert mean.seconds == pytest.approx((4.0 * 0.5 + 1.0) / 1.5)
