"""The times of a replica's prefill windows."""

import pytest

from seesaw_core.routing.windows import PrefillWindows


def test_nothing_is_known_before_the_first_window() -> None:
    windows = PrefillWindows()
    assert (windows.age_s(5.0), windows.cycle_s) == (None, None)


def test_one_window_has_an_age_and_no_cycle() -> None:
    windows = PrefillWindows()
    windows.opened(0.0)
    assert (windows.age_s(5.0), windows.cycle_s) == (5.0, None)


def test_the_cycle_is_the_mean_time_between_windows_and_late_ones_count_more() -> None:
    windows = PrefillWindows()
    for begins_s in (1.0, 3.0, 7.0):
        windows.opened(begins_s)
    assert windows.age_s(8.0) == 1.0
    assert windows.cycle_s is not None
    assert 3.0 < windows.cycle_s < 4.0
    for begins_s in range(17, 1017, 10):
        windows.opened(float(begins_s))
    assert windows.cycle_s == pytest.approx(10.0)
