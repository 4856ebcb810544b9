"""The control page: a few words of shared memory that both engines and the server see.

It says which engine owns each device, which has loaded, and when each last ran a step. Words
are 64 bits and each has one writer at a time, so plain loads and stores suffice.
"""

import time
from enum import IntEnum
from pathlib import Path

import numpy as np

from seesaw_core.errors import OwnershipError
from seesaw_worker.processes.shm import create_segment, map_segment


class Role(IntEnum):
    """The two engines, in the order in which they load."""

    PREFILL = 0
    DECODE = 1

    @property
    def title(self) -> str:
        return self.name.lower()

    @property
    def other(self) -> "Role":
        return Role.DECODE if self is Role.PREFILL else Role.PREFILL


_NOBODY = -1


class ControlPage:
    """Per device: the owner; per engine: loaded, replay's digest, last step ended, first begun.

    Units: step times in nanoseconds of the system-wide monotonic clock.
    """

    _FILE = "control"

    def __init__(self, folder: Path, num_devices: int) -> None:
        words = np.frombuffer(map_segment(folder / self._FILE), dtype=np.int64)
        self._owner = words[:num_devices]
        rest = words[num_devices : 9 * num_devices].reshape(4, 2, num_devices)
        self._loaded, self._digest, self._ended_ns, self._began_ns = rest
        self.num_devices = num_devices

    @classmethod
    def create(cls, folder: Path, num_devices: int) -> "ControlPage":
        create_segment(folder / cls._FILE, 9 * num_devices * 8, flag="--shm-dir")
        page = cls(folder, num_devices)
        page._owner[:] = _NOBODY
        return page

    def owner(self, device: int) -> Role | None:
        word = int(self._owner[device])
        return None if word == _NOBODY else Role(word)

    def take(self, device: int, role: Role) -> None:
        """Make ``role`` the owner. Raises: OwnershipError if the other engine owns the device."""
        owner = self.owner(device)
        if owner not in (None, role):
            raise OwnershipError(
                f"device {device}: the {role.title} engine wants the weights arena, "
                f"which the {owner.title} engine still owns"
            )
        self._owner[device] = role

    def give_up(self, device: int, role: Role) -> None:
        """Give up the ownership of the device, if ``role`` has it."""
        if self.owner(device) is role:
            self._owner[device] = _NOBODY

    def require(self, device: int, role: Role) -> None:
        """Raises: OwnershipError unless ``role`` owns the device."""
        owner = self.owner(device)
        if owner is not role:
            raise OwnershipError(
                f"device {device}: the {role.title} engine was asked to run a step, but "
                f"{'nobody' if owner is None else f'the {owner.title} engine'} owns the arena"
            )

    def set_loaded(self, device: int, role: Role, digest: int) -> None:
        self._digest[role, device] = digest
        self._loaded[role, device] = 1

    def num_loaded(self, role: Role) -> int:
        return int(self._loaded[role].sum())

    def same_weights(self, device: int) -> bool:
        """Return whether both engines need the same bytes in this device's arena."""
        prefill, decode = self._digest[:, device]
        return bool(prefill == decode != 0)

    def step_ended(self, device: int, role: Role, at_ns: int) -> None:
        self._ended_ns[role, device] = at_ns

    def first_step_begun(self, device: int, role: Role) -> None:
        self._began_ns[role, device] = time.monotonic_ns()

    def last_handover_s(self, to: Role) -> float:
        """Return the time in which no device ran a step during the last hand-over to ``to``.

        It lasts from the end of the other engine's last step to the start of ``to``'s first step.
        """
        ended = int(self._ended_ns[to.other].max())
        began = int(self._began_ns[to].min())
        return (began - ended) / 1e9
