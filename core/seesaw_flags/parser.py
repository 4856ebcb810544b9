"""The parser of every command of ours: what it refuses is an error of ours, in one line."""

import argparse
import re
from typing import NoReturn

from seesaw_core.errors import InputError

_SIGNED = re.compile(r"-(\.?\d|inf|nan)", re.IGNORECASE)


class CommandParser(argparse.ArgumentParser):
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
        take_signed_values(self)

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message.removeprefix('argument ')}; see {self.prog} --help")


def take_signed_values(parser: argparse.ArgumentParser) -> None:
    """Let ``--flag -inf`` reach the flag, which says what it takes, as ``--flag -1`` does."""
    parser._negative_number_matcher = _SIGNED  # noqa: SLF001 - argparse has no other way
