"""One owner per device, enforced."""

from pathlib import Path

import pytest

from seesaw_core.errors import OwnershipError
from seesaw_worker.processes.control_page import ControlPage, Role


@pytest.fixture
def page(tmp_path: Path) -> ControlPage:
    return ControlPage.create(tmp_path, 2)


def test_an_engine_runs_only_on_a_device_that_it_owns(page: ControlPage) -> None:
    with pytest.raises(OwnershipError, match="nobody owns"):
        page.require(0, Role.PREFILL)
    page.take(0, Role.PREFILL)
    page.require(0, Role.PREFILL)
    with pytest.raises(OwnershipError, match="the prefill engine owns"):
        page.require(0, Role.DECODE)


def test_a_device_is_taken_only_after_the_other_engine_gave_it_up(page: ControlPage) -> None:
    page.take(0, Role.PREFILL)
    with pytest.raises(OwnershipError, match="still owns"):
        page.take(0, Role.DECODE)
    page.give_up(0, Role.DECODE)  # not its own: nothing happens
    assert page.owner(0) is Role.PREFILL
    page.give_up(0, Role.PREFILL)
    page.take(0, Role.DECODE)
    assert (page.owner(0), page.owner(1)) == (Role.DECODE, None)


def test_both_processes_see_the_same_page(page: ControlPage, tmp_path: Path) -> None:
    page.take(1, Role.DECODE)
    page.set_loaded(1, Role.DECODE, 42)
    other = ControlPage(tmp_path, 2)
    assert other.owner(1) is Role.DECODE
    assert (other.num_loaded(Role.DECODE), other.num_loaded(Role.PREFILL)) == (1, 0)


def test_weights_count_as_the_same_only_if_both_engines_named_equal_replays(
    page: ControlPage,
) -> None:
    assert not page.same_weights(0)
    page.set_loaded(0, Role.PREFILL, 7)
    assert not page.same_weights(0)
    page.set_loaded(0, Role.DECODE, 7)
    assert page.same_weights(0)
    page.set_loaded(0, Role.DECODE, 8)
    assert not page.same_weights(0)
