"""The files and shared memory of a worker, which carry the worker's id so that none is left behind.

A supervisor creates one private folder in the temporary directory, ``seesaw-ID``. It holds vLLM's
sockets, the files by which ranks find each other, all other temporary files, and the reasons that
engines give for their end. Every segment and semaphore in ``/dev/shm`` has ``seesaw.ID.`` in its
name. So any surviving process of the worker can remove all of it by name, and the next start can
if no process survives. No list is kept, which could be late, lost or forged. Only what this user
owns is ever removed.

Every process of a worker imports this module first, which tags the shared memory that the process
will create.
"""

import contextlib
import getpass
import os
import re
import secrets
import shutil
import stat
import tempfile
from dataclasses import dataclass
from multiprocessing import process, shared_memory
from pathlib import Path
from typing import Any

from seesaw_core.errors import CapacityError
from seesaw_worker.processes.shm import (
    RunFolder,
    is_abandoned,
    is_unfinished,
    make_owned,
    remove_run_folder,
)

FOLDER_VARIABLE = "SEESAW_FOLDER"
SHM = Path("/dev/shm")
_FOLDER = re.compile(r"seesaw-[0-9a-f]{16}")
_UNFINISHED = re.compile(rf"\.{_FOLDER.pattern}")
_MEMORY_LINK = "memory"
_LONGEST_BASE = 46  # bytes: the paths of sockets in the folder may have 107


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerFiles:
    """The files and shared memory of one worker, identified by its private ``folder``."""

    folder: Path

    @classmethod
    def create(cls) -> "WorkerFiles":
        """Create the folder, which this process owns as long as it lives.

        Raises: CapacityError if the folder cannot be created.
        """
        folder = _base() / f"seesaw-{secrets.token_hex(8)}"
        try:
            make_owned(folder)
        except OSError as error:
            raise CapacityError(
                f"{folder.parent} cannot hold temporary files ({error.strerror}); free space in "
                "it, or set TMPDIR to a writable folder"
            ) from error
        return cls(folder=folder)

    @classmethod
    def current(cls) -> "WorkerFiles | None":
        """Return those of the worker of this process; None without a supervisor."""
        folder = os.environ.get(FOLDER_VARIABLE)
        return cls(folder=Path(folder)) if folder else None

    @property
    def tag(self) -> str:
        """The part that the names of all shared memory of this worker have in common."""
        return self.folder.name.replace("-", ".") + "."

    def environment(self) -> dict[str, str]:
        """Return variables that make a process and its children put their files here."""
        cache = os.environ.get(
            "TORCHINDUCTOR_CACHE_DIR", f"{tempfile.gettempdir()}/torchinductor_{_user()}"
        )
        return {
            FOLDER_VARIABLE: str(self.folder),
            "TMPDIR": str(self.folder),
            "VLLM_RPC_BASE_PATH": str(self.folder),
            "VLLM_OBJECT_STORAGE_SHM_BUFFER_NAME": f"{self.tag}objects",
            "TORCHINDUCTOR_CACHE_DIR": cache,  # kept for the next worker, as torch would
        }

    def new_rendezvous(self) -> Path:
        """Return a new file by which ranks find each other.

        vLLM's collectives on the CPU name their shared memory after it.
        """
        return self.folder / f"{self.tag}{secrets.token_hex(4)}"

    def link_run_folder(self, path: Path) -> None:
        """Record the path of the run folder, before it is created."""
        link = self.folder / _MEMORY_LINK
        link.unlink(missing_ok=True)
        link.symlink_to(path)

    def remove_memory(self) -> None:
        """Remove the worker's shared memory. Open mappings stay valid."""
        with contextlib.suppress(OSError):
            remove_run_folder((self.folder / _MEMORY_LINK).readlink())
        with contextlib.suppress(OSError):
            for path in SHM.iterdir():
                if self.tag in path.name and _is_own_file(path):
                    path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove all files and shared memory of the worker."""
        self.remove_memory()
        shutil.rmtree(self.folder, ignore_errors=True)


def create_run_folder(shm_dir: Path) -> RunFolder:
    """Create a run folder that is removed with the worker. Raises: CapacityError."""
    files = WorkerFiles.current()
    if files is None:
        return RunFolder.create(shm_dir)
    return RunFolder.create(shm_dir, before=files.link_run_folder)


def remove_memory() -> None:
    """Remove the shared memory of the worker of this process."""
    if (files := WorkerFiles.current()) is not None:
        files.remove_memory()


def remove_abandoned() -> None:
    """Remove what is left of workers whose processes were all killed at once."""
    with contextlib.suppress(OSError):
        for folder in _base().iterdir():
            if _FOLDER.fullmatch(folder.name) and is_abandoned(folder):
                WorkerFiles(folder=folder).remove()
            elif _UNFINISHED.fullmatch(folder.name) and is_unfinished(folder):
                shutil.rmtree(folder, ignore_errors=True)


def tag_shared_memory() -> None:
    """Tag Python's shared memory, semaphores and sockets of this process as the worker's.

    ``multiprocessing`` passes the last two settings on to the processes that it starts.
    """
    files = WorkerFiles.current()
    if files is None:
        return
    prefix = f"/{files.tag}"
    memory: dict[str, Any] = vars(shared_memory)
    memory["_SHM_NAME_PREFIX"] = prefix
    memory["_SHM_SAFE_NAME_LENGTH"] = len(prefix) + 16
    config: dict[str, Any] = vars(process.current_process())["_config"]
    config["semprefix"] = f"{prefix}sem"
    config["tempdir"] = str(files.folder)


def _base() -> Path:
    """Return the directory that holds the folders of all workers of this user."""
    base = Path(tempfile.gettempdir())
    return base if len(os.fsencode(base)) <= _LONGEST_BASE else Path("/tmp")


def _is_own_file(path: Path) -> bool:
    with contextlib.suppress(OSError):
        status = path.lstat()
        return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
    return False


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user often has no name
        return str(os.getuid())


tag_shared_memory()
