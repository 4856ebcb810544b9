"""Whose a resource is: a Lease that is held, by an operator that watches its namespace."""

import datetime as dt
from typing import Any

import pytest

from seesaw_operator.cluster.leases import WATCHES, looks_after

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def lease(age_s: float = 10, holder: str = "a", watches: str | None = None) -> dict[str, Any]:
    renewed = (NOW - dt.timedelta(seconds=age_s)).isoformat()
    annotations = {} if watches is None else {WATCHES: watches}
    return {
        "metadata": {"annotations": annotations},
        "spec": {"holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": 30},
    }


@pytest.mark.parametrize(
    ("found", "is_its"),
    [
        pytest.param(lease(), True, id="held, of an earlier version"),
        pytest.param(lease(watches=""), True, id="by one that watches all namespaces"),
        pytest.param(lease(watches="team,other"), True, id="by one that watches this namespace"),
        pytest.param(lease(watches="teams,other"), False, id="by one that watches others"),
        pytest.param(lease(age_s=61), False, id="run out"),
        pytest.param(lease(age_s=-59), True, id="by a clock that is a little ahead"),
        pytest.param(lease(age_s=-3600), False, id="by a clock that was far ahead"),
        pytest.param(lease(holder=""), False, id="given back"),
        pytest.param({"metadata": {}, "spec": None}, False, id="empty"),
    ],
)
def test_a_resource_is_anothers_as_long_as_its_lease_is_held_and_it_watches_the_namespace(
    found: dict[str, Any], is_its: bool
) -> None:
    assert looks_after(found, "team", NOW) == is_its
