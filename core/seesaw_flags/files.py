"""Files and folders that flags name: checked when the flag is read, and read within bounds."""

import os
import stat
from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from seesaw_core.errors import InputError
from seesaw_core.units import MIB
from seesaw_flags.values import shown

_LONGEST_PATH = 200
LARGEST_CONFIG_BYTES = 1 * MIB
"""Of a file that holds flags."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFile:
    """A regular file that can be read, of at most ``most_bytes``."""

    most_bytes: int = 16 * MIB

    def __call__(self, text: str) -> Path:
        """Raises: ArgumentTypeError."""
        return _checked(text, self._reason)

    def _reason(self, path: Path) -> str | None:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            return f"is {_kind(found.st_mode)}; name a file"
        if found.st_size > self.most_bytes:
            return f"has {found.st_size} bytes; at most {self.most_bytes} are read"
        if not os.access(path, os.R_OK):
            return "cannot be read; change its permissions"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFolder:
    """A folder that is there; with ``or_file``, a regular file will do."""

    or_file: bool = False

    def __call__(self, text: str) -> Path:
        """Raises: ArgumentTypeError."""
        return _checked(text, self._reason)

    def _reason(self, path: Path) -> str | None:
        mode = path.stat().st_mode
        if not (stat.S_ISDIR(mode) or (self.or_file and stat.S_ISREG(mode))):
            return f"is {_kind(mode)}; name a folder"
        if not os.access(path, os.R_OK):
            return "cannot be read; change its permissions"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFolder:
    """A folder that can be written or made."""

    def __call__(self, text: str) -> Path:
        """Raises: ArgumentTypeError."""
        return _checked(text, self._reason)

    def _reason(self, path: Path) -> str | None:
        for place in (path, *path.absolute().parents):
            if not _is_there(place):
                continue
            mode = place.stat().st_mode
            if not stat.S_ISDIR(mode):
                where = (
                    "" if place == path else f" cannot be made: {shown(str(place), _LONGEST_PATH)}"
                )
                return f"{where.strip() or 'this'} is {_kind(mode)}; name a folder"
            if not os.access(place, os.W_OK | os.X_OK):
                return "cannot be written; name a folder that can"
            return None
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFile:
    """A file that can be written or made, in a folder that is there."""

    def __call__(self, text: str) -> Path:
        """Raises: ArgumentTypeError."""
        return _checked(text, self._reason)

    def _reason(self, path: Path) -> str | None:
        if not path.absolute().parent.is_dir():
            return "there is no such folder; make it first"
        if _is_there(path) and not stat.S_ISREG(mode := path.stat().st_mode):
            return f"is {_kind(mode)}; name a file in a folder"
        place = path if _is_there(path) else path.absolute().parent
        return None if os.access(place, os.W_OK) else "cannot be written; name another"


def read_bytes(path: Path, *, flag: str, most_bytes: int = 16 * MIB) -> bytes:
    """A regular file's bytes. Never waits for a pipe's other end. Raises: InputError."""
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(opened, "rb") as file:
            mode = os.fstat(opened).st_mode
            if not stat.S_ISREG(mode):
                raise InputError(f"{flag}={path}: is {_kind(mode)}; name a file")
            data = file.read(most_bytes + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{flag}={path}: {reason}; name a file that can be read") from error
    if len(data) > most_bytes:
        raise InputError(f"{flag}={path}: has more than {most_bytes} bytes, the most that is read")
    return data


def read_text(path: Path, *, flag: str, most_bytes: int = 16 * MIB) -> str:
    """The same as text. Raises: InputError."""
    try:
        return read_bytes(path, flag=flag, most_bytes=most_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{flag}={path}: is not text in UTF-8 (byte {error.start})") from error


def make_folder(path: Path, flag: str) -> None:
    """Raises: InputError if there can be no such folder."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{flag}={path}: no folder can be made there ({error.strerror})"
        ) from error


def _checked(text: str, reason: Callable[[Path], str | None]) -> Path:
    if not text.strip():
        raise ArgumentTypeError(f"must be a path, got {shown(text)}")
    path = Path(text)
    try:
        found = reason(path)
    except (OSError, ValueError) as error:
        found = f"{getattr(error, 'strerror', None) or error}; name another"
    if found is not None:
        raise ArgumentTypeError(f"{shown(text, _LONGEST_PATH)}: {found}")
    return path


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    if stat.S_ISFIFO(mode):
        return "a pipe"
    return "a file" if stat.S_ISREG(mode) else "neither a file nor a folder"
