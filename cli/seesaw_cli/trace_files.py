"""Trace files: read within bounds, compressed or not."""

import gzip
import zlib
from pathlib import Path

from seesaw_core.errors import InputError
from seesaw_sim.traces import Trace, read_trace

LARGEST_BYTES = 512 << 20
_GZIP = b"\x1f\x8b"


def read_trace_file(path: Path, *, time_unit: str) -> Trace:
    """Raises: InputError naming the flag, the file and what would be accepted."""
    flag = f"--trace={path}"
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{flag}: not a regular file; give a CSV or JSON lines file")
        with path.open("rb") as raw:
            is_gzip = raw.read(2) == _GZIP
        with gzip.open(path) if is_gzip else path.open("rb") as opened:
            data = opened.read(LARGEST_BYTES + 1)
        text = data.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"{flag}: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > LARGEST_BYTES:
        raise InputError(f"{flag}: more than {LARGEST_BYTES >> 20} MiB; cut it to fewer requests")
    return read_trace(text, source=flag, time_unit=time_unit)
