"""Standard output and error that can neither block nor fail, for commands that supervise.

A process that must act on signals and deaths must not depend on the reader of its log. While
:func:`detached_output` is active, this process and its children write to pipes that are always
read, and threads pass the bytes on to the original output. If that output is a pipe that nobody
reads, a full disk or a closed pipe, the bytes beyond a bound are dropped.
"""

import array
import contextlib
import fcntl
import os
import select
import sys
import termios
import threading
import time
from collections import deque
from collections.abc import Iterator

_CHUNK_BYTES = 1 << 16
_PENDING_BYTES = 1 << 20
_PIPE_BYTES = 1 << 20
_FLUSH_S = 1.0
_POLL_S = 0.005
_STANDARD = (1, 2)


@contextlib.contextmanager
def detached_output() -> Iterator[None]:
    """Detach the standard output and error of this process and of its children.

    At the end they are restored, after all bytes have been passed on, or after a second.
    """
    _open_standard_descriptors()
    saved = {number: os.dup(number) for number in _STANDARD}
    relay = _Relay(saved[1])  # shared if both go to one file, so that lines keep their order
    relays = {1: relay, 2: relay if os.path.sameopenfile(*_STANDARD) else _Relay(saved[2])}
    try:
        _flush()
        for number in _STANDARD:
            os.dup2(relays[number].entry, number)
        yield
    finally:
        _flush()
        until_s = time.monotonic() + _FLUSH_S
        for number, target in saved.items():
            os.dup2(target, number)
            relays[number].drain(until_s)


class _Relay:
    """Passes the bytes of a pipe on to a descriptor, which may block or fail.

    Call order: write to ``entry`` at any time; :meth:`drain` last.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._exit, self.entry = os.pipe()
        with contextlib.suppress(OSError):
            fcntl.fcntl(self.entry, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._pending: deque[bytes] = deque()
        self._pending_bytes = 0
        self._dropped_bytes = 0
        self._changed = threading.Condition()
        for work in (self._read, self._write):
            threading.Thread(target=work, name="seesaw-output", daemon=True).start()

    def drain(self, until_s: float) -> None:
        """Wait until all bytes have been passed on, but no longer than ``until_s``."""
        while not self._is_empty() and time.monotonic() < until_s:
            time.sleep(_POLL_S)

    def _is_empty(self) -> bool:
        waiting = array.array("i", [0])
        with self._changed:
            fcntl.ioctl(self._exit, termios.FIONREAD, waiting)
            return not waiting[0] and not self._pending_bytes

    def _read(self) -> None:
        while True:
            select.select([self._exit], [], [])
            with self._changed:
                chunk = os.read(self._exit, _CHUNK_BYTES)
                if self._pending_bytes + len(chunk) > _PENDING_BYTES:
                    self._dropped_bytes += len(chunk)
                    continue
                self._pending.append(chunk)
                self._pending_bytes += len(chunk)
                self._changed.notify()

    def _write(self) -> None:
        while True:
            with self._changed:
                while not self._pending:
                    self._changed.wait()
                chunk = self._pending.popleft()
                dropped, self._dropped_bytes = self._dropped_bytes, 0
            note = f"seesaw: {dropped} bytes of output were dropped here\n" if dropped else ""
            is_written = self._write_whole(note.encode() + chunk)
            with self._changed:
                self._pending_bytes -= len(chunk)
                if not is_written:
                    self._dropped_bytes += dropped + len(chunk)

    def _write_whole(self, data: bytes) -> bool:
        """Write all of ``data``, however long it takes. Returns whether that succeeded."""
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._target, left) :]
            except BlockingIOError:
                select.select([], [self._target], [])
            except OSError:
                return False
        return True


def _open_standard_descriptors() -> None:
    """Open closed standard descriptors, since the next file opened would take their number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):
                opened = os.open(os.devnull, os.O_RDWR)
                if opened != number:
                    os.dup2(opened, number)
                    os.close(opened)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - it stays open
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
