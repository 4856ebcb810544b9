"""Kubernetes quantities and durations as numbers, and back."""

import re
from decimal import Decimal

from seesaw_core.units import GIB, MIB

_SUFFIXES = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "P": 10**15,
    "Ki": 1 << 10,
    "Mi": MIB,
    "Gi": GIB,
    "Ti": 1 << 40,
    "Pi": 1 << 50,
    "E": 10**18,
    "Ei": 1 << 60,
}
_DURATION_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def num_bytes(quantity: str) -> int:
    """Bytes of a quantity such as ``64Gi``. Requires: the CRD's pattern has accepted it."""
    match = re.fullmatch(r"([0-9.]+(?:[eE]\+?[0-9]+)?)([A-Za-z]*)", quantity)
    assert match is not None, quantity
    return int(Decimal(match[1]) * _SUFFIXES[match[2]])


def num_millicores(quantity: str) -> int:
    """Thousandths of a core of a quantity such as ``8`` or ``500m``. Requires: as above."""
    cores, is_milli, _ = quantity.partition("m")
    return int(Decimal(cores) * (1 if is_milli else 1000))


def quantity(size_bytes: int) -> str:
    """A size as Kubernetes itself spells it: in the largest binary unit that divides it."""
    for suffix in ("Ti", "Gi", "Mi", "Ki"):
        if size_bytes % _SUFFIXES[suffix] == 0:
            return f"{size_bytes // _SUFFIXES[suffix]}{suffix}"
    return str(size_bytes)


def cores(num_millicores: int) -> str:
    """Processor cores as Kubernetes itself spells them."""
    whole, rest = divmod(num_millicores, 1000)
    return f"{num_millicores}m" if rest else str(whole)


def seconds(duration: str) -> float:
    """Seconds of a duration such as ``1m30s``. Requires: the CRD's pattern has accepted it."""
    parts = re.findall(r"([0-9.]+)(ms|s|m|h)", duration)
    assert parts, duration
    return sum(float(number) * _DURATION_S[unit] for number, unit in parts)
