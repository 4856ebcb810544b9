"""Which operator looks after a namespace, as its Lease says. Pure."""

import datetime as dt

from seesaw_operator.api.crd import GROUP
from seesaw_operator.cluster.store import Object

WATCHES = f"{GROUP}/watches"
"""The annotation of a Lease with the namespaces that its holder watches, separated by commas.

It is empty if the holder watches all namespaces.
"""
_NUM_DURATIONS = 2


def looks_after(lease: Object, namespace: str, now: dt.datetime) -> bool:
    """Whether a Lease is held, by an operator that watches a namespace.

    A Lease of an earlier version, without the annotation, may stand for any namespace.
    """
    watched = (lease["metadata"].get("annotations") or {}).get(WATCHES, "")
    if watched and namespace not in watched.split(","):
        return False
    spec = lease.get("spec") or {}
    renewed, lasts_s = spec.get("renewTime"), spec.get("leaseDurationSeconds")
    if not spec.get("holderIdentity") or renewed is None or lasts_s is None:
        return False
    age = now - dt.datetime.fromisoformat(renewed)
    # Clocks may differ either way. A time far ahead comes from a clock that was set back since.
    return abs(age.total_seconds()) < _NUM_DURATIONS * float(lasts_s)
