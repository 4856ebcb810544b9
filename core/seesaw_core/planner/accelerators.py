"""Accelerators and the links between them: data-sheet figures, and how users add their own.

``accelerators.toml`` beside this module is the catalogue, with a source for every figure. The
shares of these figures that devices reach in practice are in :mod:`seesaw_core.planner.profiles`.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any

from seesaw_core.errors import InputError
from seesaw_core.planner.bounds import shown
from seesaw_core.units import GIB

# GiB, GB/s and TFLOP/s: from a hundredth of the slowest link to a hundred times the fastest device
# and link, which have below 100,000.
LEAST = 0.01
MOST = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Interconnect:
    """A device's link to other devices or to its host. Units: bytes per second and direction.

    ``kind`` is ``pcie`` if traffic between devices passes the host's root complex or memory, and
    otherwise the kind of the direct link, such as ``nvlink``. ``fabric_bytes_per_s`` is what the
    host carries of the traffic of all devices; None if the profile says.
    """

    name: str
    kind: str
    bytes_per_s: float
    fabric_bytes_per_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """One device. Units: bytes, bytes per second, floating-point operations per second.

    ``flops_16`` and ``flops_8`` are dense rates in 16 and 8 bits; they are equal without 8-bit
    units. With ``has_fp8`` the 8-bit units compute in floating point, otherwise only in integers.
    ``flops_4`` is the rate in 4-bit floating point; None without such units.
    ``peer_link`` joins at most ``domain`` devices; None if that is not known.
    """

    name: str
    memory_bytes: float
    memory_bytes_per_s: float
    flops_16: float
    flops_8: float
    host_link: Interconnect
    peer_link: Interconnect
    has_fp8: bool = False
    flops_4: float | None = None
    products: tuple[str, ...] = ()
    domain: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """Accelerators and interconnects by name."""

    accelerators: Mapping[str, Accelerator]
    interconnects: Mapping[str, Interconnect]

    def find(self, name: str) -> Accelerator | None:
        """Find by name or product label in any common spelling: ``NVIDIA L4``, ``nvidia-l4``."""
        wanted = _plain(name)
        for device in self.accelerators.values():
            if wanted in map(_plain, (device.name, *device.products)):
                return device
        return None

    def accelerator(self, name: str) -> Accelerator:
        """Find by name or product label. Raises: InputError listing the names."""
        device = self.find(name)
        if device is not None:
            return device
        wanted = _plain(name)
        near = [k for k in self.accelerators if len(wanted) > 1 and wanted in k.casefold()]
        near = near or get_close_matches(name, self.accelerators, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise InputError(
            f"accelerator {shown(name)} is not known; {hint}known: {', '.join(self.accelerators)}; "
            "add your own in a TOML file"
        )


@cache
def builtin_catalogue() -> Catalogue:
    text = (files("seesaw_core.planner") / "accelerators.toml").read_text()
    return read_catalogue(text, source="accelerators.toml")


def read_catalogue(text: str, *, source: str, extends: Catalogue | None = None) -> Catalogue:
    """Read accelerators and interconnects. Entries may use and replace those of ``extends``.

    Raises: InputError naming ``source``, the entry, the field and what would be accepted.
    """
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source} is not TOML: {error}") from error
    unknown = set(tables) - {"accelerator", "interconnect"}
    if unknown:
        raise InputError(
            f"{source}: {sorted(unknown)} unknown; known are [[accelerator]] and [[interconnect]]"
        )
    for kind, entries in tables.items():
        if not isinstance(entries, list):
            raise InputError(f"{source}: {kind} must be tables, written [[{kind}]]")
    links = dict(extends.interconnects) if extends else {}
    devices = dict(extends.accelerators) if extends else {}
    for number, fields in enumerate(tables.get("interconnect", ()), 1):
        entry = _Entry(source, "interconnect", number, fields)
        link = Interconnect(
            name=entry.text("name"),
            kind=entry.text("kind"),
            bytes_per_s=entry.amount("gb_per_s") * 1e9,
            fabric_bytes_per_s=entry.amount("fabric_gb_per_s") * 1e9
            if "fabric_gb_per_s" in entry
            else None,
        )
        entry.finish(optional={"source"})
        links[link.name] = link
    for number, fields in enumerate(tables.get("accelerator", ()), 1):
        entry = _Entry(source, "accelerator", number, fields)
        device = _accelerator(entry, links)
        devices[device.name] = device
    return Catalogue(accelerators=devices, interconnects=links)


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "-", name.strip()).casefold()


def _accelerator(entry: "_Entry", known: Mapping[str, Interconnect]) -> Accelerator:
    flops_16 = entry.amount("tflops_16") * 1e12
    device = Accelerator(
        name=entry.text("name"),
        memory_bytes=entry.amount("memory_gib") * GIB,
        memory_bytes_per_s=entry.amount("memory_gb_per_s") * 1e9,
        flops_16=flops_16,
        flops_8=entry.amount("tflops_8", default=flops_16 / 1e12) * 1e12,
        host_link=entry.link("host_link", known),
        peer_link=entry.link("peer_link", known),
        has_fp8=entry.flag("fp8"),
        flops_4=entry.amount("tflops_4") * 1e12 if "tflops_4" in entry else None,
        products=entry.names("products"),
        domain=entry.whole("domain"),
    )
    entry.finish(optional={"sources"})
    return device


class _Entry:
    """One table of the file. It records which fields were read, so that others can be refused."""

    def __init__(self, source: str, kind: str, number: int, fields: Any) -> None:
        if not isinstance(fields, Mapping):
            raise InputError(f"{source}: {kind} must be a table, written [[{kind}]]")
        self.fields = fields
        self._at = f"{source}: {kind} {shown(fields.get('name', number))}"
        self._read: set[str] = set()

    def __contains__(self, field: str) -> bool:
        return field in self.fields

    def text(self, field: str) -> str:
        value = self._given(field)
        if not isinstance(value, str) or not value:
            raise InputError(f"{self._at}: {field}={shown(value)} must be a name")
        return value

    def amount(self, field: str, default: float | None = None) -> float:
        value = self._given(field, default)
        if (
            not isinstance(value, int | float)
            or isinstance(value, bool)
            or not LEAST <= value <= MOST
        ):
            raise InputError(
                f"{self._at}: {field}={shown(value)} must be a number from {LEAST} to {MOST:,}"
            )
        return float(value)

    def whole(self, field: str) -> int | None:
        self._read.add(field)
        value = self.fields.get(field)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST:
            raise InputError(
                f"{self._at}: {field}={shown(value)} must be a whole number from 1 to {MOST:,}"
            )
        return value

    def names(self, field: str) -> tuple[str, ...]:
        value = self._given(field, default=[])
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise InputError(f"{self._at}: {field}={shown(value)} must be a list of names")
        return tuple(value)

    def link(self, field: str, known: Mapping[str, Interconnect]) -> Interconnect:
        name = self.text(field)
        if name not in known:
            raise InputError(
                f"{self._at}: {field}: interconnect {shown(name)} is not known; known: "
                f"{', '.join(known)}"
            )
        return known[name]

    def flag(self, field: str) -> bool:
        value = self._given(field, default=False)
        if not isinstance(value, bool):
            raise InputError(f"{self._at}: {field}={shown(value)} must be true or false")
        return value

    def _given(self, field: str, default: Any = None) -> Any:
        self._read.add(field)
        value = self.fields.get(field, default)
        if value is None:
            raise InputError(f"{self._at} lacks {field}")
        return value

    def finish(self, *, optional: set[str]) -> None:
        unknown = set(self.fields) - self._read - optional
        if unknown:
            known = sorted(self._read | optional)
            raise InputError(f"{self._at}: {sorted(unknown)} unknown; known: {known}")
