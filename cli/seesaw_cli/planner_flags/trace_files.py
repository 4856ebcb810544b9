"""Reads trace files, gzipped or not, up to a bound on their size."""

import gzip
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from seesaw_core.errors import InputError
from seesaw_sim.traces import Trace, read_trace

LARGEST_BYTES = 512 << 20  # a million rows of Azure or BurstGPT take less than 100 MB
_GZIP = b"\x1f\x8b"
_PACKED = {b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip"}
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_PRINT_EVERY_S = 2.0


def read_trace_file(path: Path, *, time_unit: str) -> Trace:
    """Read a trace. Raises: InputError naming the flag, the file and what would be accepted."""
    flag = f"--trace={path}"
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{flag}: not a regular file; give a CSV or JSON lines file")
        with path.open("rb") as raw:
            is_gzip = raw.read(2) == _GZIP
        with gzip.open(path) if is_gzip else path.open("rb") as opened:
            data = opened.read(LARGEST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{flag}: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > LARGEST_BYTES:
        raise InputError(f"{flag}: more than {LARGEST_BYTES >> 20} MiB; cut it to fewer requests")
    return read_trace(
        _text(data, flag), source=flag, time_unit=time_unit, on_rows=ReadingProgress(flag)
    )


class ReadingProgress:
    """Prints to standard error every few seconds how many rows of a trace have been read."""

    def __init__(self, source: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._now = clock
        self._printed_s = clock()

    def __call__(self, rows: int) -> None:
        if self._now() - self._printed_s >= _PRINT_EVERY_S:
            self._printed_s = self._now()
            print(f"seesaw: {self._source}: {rows:,} rows read", file=sys.stderr, flush=True)


def _text(data: bytes, flag: str) -> str:
    """Decode a trace. Raises: InputError that names the format of the bytes, if it is known."""
    packed = next((name for start, name in _PACKED.items() if data.startswith(start)), None)
    if packed is not None:
        raise InputError(f"{flag}: is compressed with {packed}; decompress it, or use gzip")
    if data.startswith(_UTF_16):
        raise InputError(f"{flag}: is text in UTF-16; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{flag}: is not text in UTF-8 (byte {error.start}); give a CSV or JSON lines file"
        ) from error
