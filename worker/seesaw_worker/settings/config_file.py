"""Reads the file of ``--config`` as vLLM does, but before vLLM is imported."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from seesaw_core.errors import InputError
from seesaw_flags.files import LARGEST_CONFIG_BYTES, read_bytes

_FLAG = "--config"


def separate_config(arguments: Sequence[str]) -> list[str]:
    """Write ``--config=FILE`` as ``--config FILE``, the only form in which vLLM reads the file."""
    separated: list[str] = []
    for argument in arguments:
        flag, equals, file = argument.partition("=")
        separated += [flag, file] if flag == _FLAG and equals else [argument]
    return separated


def config_path(arguments: Sequence[str]) -> Path | None:
    """Return the file that a command line names, or None. Raises: InputError."""
    separated = separate_config(arguments)
    if _FLAG not in separated:
        return None
    if separated.count(_FLAG) > 1:
        raise InputError(f"{_FLAG} is given twice; give one file with all flags")
    following = separated[separated.index(_FLAG) + 1 :]
    if not following:
        raise InputError(f"{_FLAG} names no file; give {_FLAG}=FILE.yaml")
    return Path(following[0])


def read_config(path: Path) -> Mapping[str, object]:
    """Return flags, without dashes, and their values. Raises: InputError if it is not readable."""
    named = f"{_FLAG}={path}"
    if path.suffix not in (".yaml", ".yml"):
        raise InputError(f"{named}: its name must end in .yaml or .yml")
    data = read_bytes(path, flag=_FLAG, most_bytes=LARGEST_CONFIG_BYTES)
    try:
        flags = yaml.safe_load(data)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"{named} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(flags, dict) or not all(isinstance(name, str) for name in flags):
        raise InputError(f"{named} must map names of flags, without their dashes, to values")
    return flags


def as_arguments(flags: Mapping[str, object]) -> Iterator[str]:
    """Yield the flags of a file as on a command line. Requires: each flag has one value."""
    for name, value in flags.items():
        if isinstance(value, bool):
            yield f"--{name}" if value else f"--no-{name}"
        else:
            yield f"--{name}={value}"
