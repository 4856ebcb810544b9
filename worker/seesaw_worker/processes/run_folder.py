"""What a worker leaves on a machine carries the worker's id, and so goes with it.

A supervisor makes one private folder in the temporary directory, ``seesaw-ID``. It holds vLLM's
sockets, the files by which ranks meet, all other temporary files, and what engines say of their
end. Every segment and semaphore in ``/dev/shm`` has ``seesaw.ID.`` in its name. So whoever is
left of the worker removes all of it by name, and so does the next start if nobody is left: there
is no list that could be late, lost or planted. Only what this user owns is ever removed.

Imported first in every process of a worker: importing it names what the process will make.
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
_LONGEST_BASE = 46  # bytes: sockets lie in the folder, and their paths end at 107


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """All that one worker leaves, found by its private ``folder``."""

    folder: Path

    @classmethod
    def create(cls) -> "Traces":
        """Make the folder, which is this process's for as long as it lives.

        Raises: CapacityError if it cannot be made.
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
    def current(cls) -> "Traces | None":
        """Those of the worker that this process belongs to; None without a supervisor."""
        told = os.environ.get(FOLDER_VARIABLE)
        return cls(folder=Path(told)) if told else None

    @property
    def mark(self) -> str:
        """What stands in the name of all shared memory of this worker."""
        return self.folder.name.replace("-", ".") + "."

    def environment(self) -> dict[str, str]:
        """Makes a process, and those below it, leave everything here."""
        cache = os.environ.get(
            "TORCHINDUCTOR_CACHE_DIR", f"{tempfile.gettempdir()}/torchinductor_{_user()}"
        )
        return {
            FOLDER_VARIABLE: str(self.folder),
            "TMPDIR": str(self.folder),
            "VLLM_RPC_BASE_PATH": str(self.folder),
            "VLLM_OBJECT_STORAGE_SHM_BUFFER_NAME": f"{self.mark}objects",
            "TORCHINDUCTOR_CACHE_DIR": cache,  # kept for the next worker, as torch would
        }

    def new_rendezvous(self) -> Path:
        """A file by which ranks meet. vLLM's collectives on the CPU name their memory after it."""
        return self.folder / f"{self.mark}{secrets.token_hex(4)}"

    def link_run_folder(self, path: Path) -> None:
        """Remember where the run folder is about to be made."""
        link = self.folder / _MEMORY_LINK
        link.unlink(missing_ok=True)
        link.symlink_to(path)

    def remove_memory(self) -> None:
        """Remove the worker's shared memory. Mappings that are open stay valid."""
        with contextlib.suppress(OSError):
            remove_run_folder((self.folder / _MEMORY_LINK).readlink())
        with contextlib.suppress(OSError):
            for path in SHM.iterdir():
                if self.mark in path.name and _is_own_file(path):
                    path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove everything."""
        self.remove_memory()
        shutil.rmtree(self.folder, ignore_errors=True)


def create_run_folder(shm_dir: Path) -> RunFolder:
    """Make a run folder that goes with the worker. Raises: CapacityError."""
    traces = Traces.current()
    if traces is None:
        return RunFolder.create(shm_dir)
    return RunFolder.create(shm_dir, before=traces.link_run_folder)


def remove_memory() -> None:
    """Remove the shared memory of the worker that this process belongs to."""
    if (traces := Traces.current()) is not None:
        traces.remove_memory()


def remove_abandoned() -> None:
    """Remove what workers left of which every process was killed at once."""
    with contextlib.suppress(OSError):
        for folder in _base().iterdir():
            if _FOLDER.fullmatch(folder.name) and is_abandoned(folder):
                Traces(folder=folder).remove()
            elif _UNFINISHED.fullmatch(folder.name) and is_unfinished(folder):
                shutil.rmtree(folder, ignore_errors=True)


def name_what_is_made() -> None:
    """Let Python's shared memory, semaphores and sockets of this process be the worker's.

    ``multiprocessing`` hands the latter two on to the processes that it starts.
    """
    traces = Traces.current()
    if traces is None:
        return
    prefix = f"/{traces.mark}"
    memory: dict[str, Any] = vars(shared_memory)
    memory["_SHM_NAME_PREFIX"] = prefix
    memory["_SHM_SAFE_NAME_LENGTH"] = len(prefix) + 16
    config: dict[str, Any] = vars(process.current_process())["_config"]
    config["semprefix"] = f"{prefix}sem"
    config["tempdir"] = str(traces.folder)


def _base() -> Path:
    """Where the folders of all workers of this user lie."""
    base = Path(tempfile.gettempdir())
    return base if len(os.fsencode(base)) <= _LONGEST_BASE else Path("/tmp")


def _is_own_file(path: Path) -> bool:
    with contextlib.suppress(OSError):
        found = path.lstat()
        return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
    return False


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user often has no name
        return str(os.getuid())


name_what_is_made()
