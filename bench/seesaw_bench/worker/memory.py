"""The memory of a process tree by kind, with every page counted once.

It comes from ``/proc/PID/smaps``, which divides a page that several processes map between them (the
"proportional" size), so that sums over a tree count it once.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil

_KIB = 1024


class Kind(StrEnum):
    """What a mapping holds."""

    HOST_WEIGHTS = "host_weights"
    ARENA = "arena"
    KV_BUFFER = "kv_buffer"
    PRIVATE = "private"
    SHARED = "shared"
    LIBRARIES = "libraries"


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeMemory:
    """Bytes of one process tree by kind, each page counted once, and private bytes by process.

    ``host_weights_mapped`` is the sum over the processes, as if each mapping were a copy.
    """

    by_kind: dict[Kind, int]
    host_weights_mapped: int
    private_by_pid: dict[int, int]

    @property
    def total(self) -> int:
        return sum(self.by_kind.values())


def tree_memory(pid: int) -> TreeMemory:
    """Return the memory of a process and its descendants. Raises: psutil.NoSuchProcess."""
    root = psutil.Process(pid)
    by_kind: defaultdict[Kind, int] = defaultdict(int)
    private: dict[int, int] = {}
    mapped = 0
    for process in [root, *root.children(recursive=True)]:
        try:
            lines = Path(f"/proc/{process.pid}/smaps").read_text(errors="replace").splitlines()
        except OSError:
            continue  # it has just ended
        own = 0
        for mapping in parse_smaps(lines):
            by_kind[mapping.kind] += mapping.proportional
            if mapping.kind is Kind.HOST_WEIGHTS:
                mapped += mapping.resident
            own += mapping.private
        private[process.pid] = own
    return TreeMemory(by_kind=dict(by_kind), host_weights_mapped=mapped, private_by_pid=private)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """One mapping of one process. Units: bytes."""

    kind: Kind
    resident: int
    proportional: int
    private: int


def parse_smaps(lines: Iterable[str]) -> Iterable[Mapping]:
    """Yield the mappings of an ``smaps`` file."""
    path, sizes = "", defaultdict[str, int](int)
    for line in lines:
        first, _, rest = line.partition(" ")
        if first.endswith(":"):
            if rest.endswith(" kB"):
                sizes[first[:-1]] = int(rest.split()[0]) * _KIB
            continue
        if sizes:
            yield _mapping(path, sizes)
        fields = line.split(maxsplit=5)
        path, sizes = (fields[5] if len(fields) > 5 else ""), defaultdict(int)
    if sizes:
        yield _mapping(path, sizes)


def _mapping(path: str, sizes: dict[str, int]) -> Mapping:
    name = Path(path.removesuffix(" (deleted)")).name
    kind = Kind.LIBRARIES
    if name.endswith(".safetensors"):
        kind = Kind.HOST_WEIGHTS
    elif name.startswith("arena-"):
        kind = Kind.ARENA
    elif name == "kv-buffer":
        kind = Kind.KV_BUFFER
    elif not path or path.startswith("["):
        kind = Kind.PRIVATE
    elif path.startswith(("/dev/shm", "/dev/zero", "/memfd", "/SYSV")):
        kind = Kind.SHARED
    return Mapping(
        kind=kind,
        resident=sizes["Rss"],
        proportional=sizes["Pss"],
        private=sizes["Private_Clean"] + sizes["Private_Dirty"],
    )
