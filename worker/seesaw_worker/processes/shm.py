"""Shared memory: one folder per worker, reserved up front and never left behind.

Every segment is a file in the worker's run folder on a memory-backed file system. The owner locks
the folder as long as it lives, so the next start can distinguish a folder in use from one that
``kill -9`` left behind.
"""

import errno
import fcntl
import mmap
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from seesaw_core.errors import CapacityError
from seesaw_core.units import GIB

RUN_FOLDER = re.compile(r"seesaw-\d+-[0-9a-f]{8}")
LOCK = "owner.lock"
_UNFINISHED = re.compile(rf"\.{RUN_FOLDER.pattern}")
_UNFINISHED_S = 60.0
IN_MEMORY = frozenset({"tmpfs", "ramfs", "hugetlbfs"})


class RunFolder:
    """A worker's folder of segments, removed on :meth:`close` or at the next start."""

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self._lock_fd = lock_fd

    @classmethod
    def create(cls, shm_dir: Path, before: Callable[[Path], None] = lambda _: None) -> "RunFolder":
        """Create a new folder below ``shm_dir`` and remove those whose owner has died.

        ``before`` gets the path before the folder exists, so that another process can remove the
        folder if this one dies.
        Raises: CapacityError if ``shm_dir`` cannot be written.
        """
        try:
            remove_stale(shm_dir)
            path = shm_dir / f"seesaw-{os.getpid()}-{secrets.token_hex(4)}"
            before(path.absolute())
            lock_fd = make_owned(path)
        except OSError as error:
            raise CapacityError(
                f"--shm-dir={shm_dir}: cannot hold shared memory ({error.strerror}); give a "
                "writable memory-backed folder, such as /dev/shm or a mounted emptyDir"
            ) from error
        return cls(path, lock_fd)

    def close(self) -> None:
        """Remove the folder and all segments. Open mappings stay valid."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1


def remove_stale(shm_dir: Path) -> list[Path]:
    """Remove run folders whose owner has died. Returns their paths."""
    removed = []
    for path in shm_dir.iterdir():
        if (RUN_FOLDER.fullmatch(path.name) and is_abandoned(path)) or (
            _UNFINISHED.fullmatch(path.name) and is_unfinished(path)
        ):
            shutil.rmtree(path, ignore_errors=True)
            removed.append(path)
    return removed


def remove_run_folder(path: Path) -> None:
    """Remove a run folder, complete or not, even if it is locked. Other paths are kept."""
    for folder in (path, path.with_name(f".{path.name}")):
        if RUN_FOLDER.fullmatch(path.name) and is_private(folder):
            shutil.rmtree(folder, ignore_errors=True)


def make_owned(path: Path) -> int:
    """Create a private folder that is locked as long as this process lives.

    The folder is locked before it gets its name, so that no process finds it without an owner.
    Returns the lock's descriptor. Raises: OSError.
    """
    unfinished = path.with_name(f".{path.name}")
    unfinished.mkdir(mode=0o700)
    lock_fd = os.open(unfinished / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    unfinished.rename(path)
    return lock_fd


def is_private(path: Path) -> bool:
    """Return whether a path is a folder, not a link, that only this user can read and write.

    Other folders in a shared directory are not trusted, since any user may have created them.
    """
    try:
        status = path.lstat()
    except OSError:
        return False
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == os.geteuid()
        and not status.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    )


def is_abandoned(path: Path) -> bool:
    """Return whether a private folder has a lock that no process holds."""
    if not is_private(path):
        return False
    try:
        lock_fd = os.open(path / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False  # it is being removed
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(lock_fd)
    return True


def is_unfinished(path: Path) -> bool:
    """Return whether a private folder is so old that its creation must have been interrupted."""
    try:
        return is_private(path) and time.time() - path.stat().st_mtime > _UNFINISHED_S
    except OSError:
        return False


def file_system(folder: Path) -> str:
    """Return the type of a folder's file system, such as ``tmpfs``; empty if it is unknown."""
    place = folder.resolve()
    best, kind = -1, ""
    for partition in psutil.disk_partitions(all=True):
        mount = Path(partition.mountpoint)
        if place.is_relative_to(mount) and len(mount.parts) >= best:
            best, kind = len(mount.parts), partition.fstype
    return kind


def check_room(shm_dir: Path, wanted_bytes: int, *, for_what: str, flag: str) -> None:
    """Check that the shared memory has enough free space.

    Raises: CapacityError that names the bytes needed and the flag or mount to change.
    """
    try:
        stat = os.statvfs(shm_dir)
    except OSError as error:
        raise CapacityError(f"--shm-dir={shm_dir}: {error.strerror}") from error
    free = stat.f_bavail * stat.f_frsize
    if free < wanted_bytes:
        raise CapacityError(
            f"{shm_dir} has {free / GIB:.2f} GiB of shared memory free, but {for_what} take "
            f"{wanted_bytes / GIB:.2f} GiB ({wanted_bytes} bytes): lower {flag}, or enlarge the "
            f"mount (docker: --shm-size; Kubernetes: a larger memory-backed emptyDir at {shm_dir})"
        )


def create_segment(path: Path, num_bytes: int, *, flag: str) -> None:
    """Create a segment whose memory is reserved, so that no later write can fail.

    Raises: CapacityError if the shared memory cannot hold it.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        reserve(fd, num_bytes, path=path, flag=flag)
    except CapacityError:
        path.unlink()
        raise
    finally:
        os.close(fd)


def reserve(fd: int, num_bytes: int, *, path: Path, flag: str) -> None:
    """Allocate the memory of the first ``num_bytes`` of an open segment now.

    Raises: CapacityError if the shared memory cannot hold them.
    """
    try:
        os.posix_fallocate(fd, 0, num_bytes)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.ENOMEM, errno.EFBIG):
            raise
        check_room(path.parent, num_bytes, for_what=path.name, flag=flag)
        raise CapacityError(f"{path} cannot take {num_bytes} bytes: {error.strerror}") from error


def map_segment(path: Path) -> mmap.mmap:
    """Map a whole segment for reading and writing."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return mmap.mmap(fd, 0, mmap.MAP_SHARED)
    finally:
        os.close(fd)
