"""The parser of every command of ours: what it refuses is an error of ours, in one line."""

import argparse
import re
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, NoReturn

from seesaw_core.errors import InputError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_SIGNED = re.compile(r"-(\.?\d|inf|nan)", re.IGNORECASE)


def defaults_of(settings: "type[DataclassInstance]") -> dict[str, Any]:
    """The defaults of a settings class by its fields, for the flags that set them."""
    return {each.name: each.default for each in fields(settings) if each.default is not MISSING}


class ExactValues(argparse.ArgumentParser):
    """Lets ``--flag -inf`` and ``--flag=--`` reach the flag, which says what it takes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._negative_number_matcher = _SIGNED

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        if action.option_strings and "--" in arg_strings:  # argparse would drop it
            raise argparse.ArgumentError(action, "expected a value, got '--'")
        return super()._get_values(action, arg_strings)


class CommandParser(ExactValues):
    """Raises: InputError in place of printing its usage. ``keeps_lines``: of its description."""

    def __init__(
        self,
        prog: str,
        description: str | None,
        *,
        epilog: str | None = None,
        allow_abbrev: bool = True,
        keeps_lines: bool = True,
    ) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            allow_abbrev=allow_abbrev,
            formatter_class=argparse.RawDescriptionHelpFormatter
            if keeps_lines
            else argparse.HelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message.removeprefix('argument ')}; see {self.prog} --help")
