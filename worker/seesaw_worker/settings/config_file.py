"""The file of ``--config``: flags by their names, as vLLM reads them, but before it is imported."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from seesaw_core.errors import InputError
from seesaw_flags.files import LARGEST_CONFIG_BYTES, read_bytes

_FLAG = "--config"


def with_config_apart(arguments: Sequence[str]) -> list[str]:
    """``--config=FILE`` as ``--config FILE``, the one form in which vLLM reads the file."""
    apart: list[str] = []
    for argument in arguments:
        flag, equals, file = argument.partition("=")
        apart += [flag, file] if flag == _FLAG and equals else [argument]
    return apart


def config_path(arguments: Sequence[str]) -> Path | None:
    """The file that a command line names, None without one. Raises: InputError."""
    apart = with_config_apart(arguments)
    if _FLAG not in apart:
        return None
    if apart.count(_FLAG) > 1:
        raise InputError(f"{_FLAG} is given twice; give one file with all flags")
    following = apart[apart.index(_FLAG) + 1 :]
    if not following:
        raise InputError(f"{_FLAG} names no file; give {_FLAG}=FILE.yaml")
    return Path(following[0])


def read_config(path: Path) -> Mapping[str, object]:
    """Flags, without their dashes, and values. Raises: InputError if vLLM could not read it."""
    named = f"{_FLAG}={path}"
    if path.suffix not in (".yaml", ".yml"):
        raise InputError(f"{named}: its name must end in .yaml or .yml")
    data = read_bytes(path, flag=_FLAG, most_bytes=LARGEST_CONFIG_BYTES)
    try:
        flags = yaml.safe_load(data)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"{named} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(flags, dict) or not all(isinstance(name, str) for name in flags):
        raise InputError(f"{named}: must map names of flags, without their dashes, to values")
    return flags


def as_arguments(flags: Mapping[str, object]) -> Iterator[str]:
    """Flags of a file as a command line has them; of one value each, as all of ours are."""
    for name, value in flags.items():
        if isinstance(value, bool):
            yield f"--{name}" if value else f"--no-{name}"
        else:
            yield f"--{name}={value}"
