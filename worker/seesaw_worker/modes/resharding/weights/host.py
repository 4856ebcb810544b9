"""The host copy of a model: its checkpoint files, mapped and never copied.

Every rank of both engines maps the same files, so the worker has one host copy, which is the
operating system's page cache.
"""

import ctypes
import json
import mmap
import struct
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from seesaw_core.errors import ModelError

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mlock.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HostTensor:
    """One tensor of a checkpoint file. Units: bytes from the start of the file."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The place of some bytes in the host copy."""

    file: int
    offset: int


def no_safetensors(model: str) -> ModelError:
    """Return the error for a checkpoint without safetensors files."""
    return ModelError(
        f"{model} holds no *.safetensors files, which sharing one host copy of the weights needs; "
        "convert the checkpoint, or use --weights resident"
    )


def read_header(path: Path) -> list[HostTensor]:
    """Return the tensors of a safetensors file. Raises: ModelError if it cannot be read as one."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
    except (OSError, ValueError, struct.error, MemoryError) as error:
        raise ModelError(f"{path}: not a readable safetensors file ({error})") from error
    base = 8 + length
    tensors = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype = _DTYPES.get(entry["dtype"])
        if dtype is None:
            raise ModelError(
                f"{path}: tensor {name!r} has dtype {entry['dtype']}, which cannot be mapped; "
                "use --reshard never or another checkpoint"
            )
        start, stop = entry["data_offsets"]
        tensors.append(
            HostTensor(
                name=name,
                dtype=dtype,
                shape=tuple(entry["shape"]),
                start=base + start,
                stop=base + stop,
            )
        )
    return tensors


class HostModel:
    """All safetensors files of a checkpoint, mapped read-only."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self.paths = tuple(paths)
        self._tensors = [read_header(path) for path in self.paths]
        self.files: list[torch.Tensor] = []
        for path in self.paths:
            with path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*not writable.*")
                self.files.append(torch.frombuffer(mapped, dtype=torch.uint8))

    @property
    def num_bytes(self) -> int:
        return sum(t.stop - t.start for tensors in self._tensors for t in tensors)

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield every tensor with its name, as a view of the mapping."""
        for file, tensors in zip(self.files, self._tensors, strict=True):
            for tensor in tensors:
                if tensor.start == tensor.stop:
                    yield tensor.name, torch.empty(tensor.shape, dtype=tensor.dtype)
                    continue
                raw = file[tensor.start : tensor.stop]
                if raw.data_ptr() % tensor.dtype.itemsize:
                    raw = raw.clone()
                yield tensor.name, raw.view(tensor.dtype).view(tensor.shape)

    def locate(self, tensor: torch.Tensor) -> Place | None:
        """Return the place of a tensor in the host copy, or None if it is elsewhere."""
        if tensor.device.type != "cpu" or not tensor.numel():
            return None
        pointer = tensor.data_ptr()
        for index, file in enumerate(self.files):
            offset = pointer - file.data_ptr()
            if 0 <= offset < file.numel():
                return Place(file=index, offset=offset)
        return None

    def lock_pages(self) -> bool:
        """Read the mapping into memory and lock it there, so that no copy waits for a disk.

        The kernel may drop pages of a file that have not been used for a while. Returns whether
        all pages are locked (``mlock``, which RLIMIT_MEMLOCK or CAP_IPC_LOCK allows).
        """
        locked = True
        for file in self.files:
            file[:: mmap.PAGESIZE].sum()
            locked &= _libc.mlock(file.data_ptr(), file.numel()) == 0
        return locked
