"""How a command logs: two flags, and lines that say when, how serious, who and about what."""

import argparse
import datetime as dt
import json
import logging
import re
import sys
from contextvars import ContextVar
from dataclasses import dataclass

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")
ABOUT: ContextVar[str | None] = ContextVar("about", default=None)
"""The object, as ``NAMESPACE/NAME``, that the running task is busy with."""

_OURS = ("seesaw_operator", "seesaw_router")
# What would end a line, or change how a terminal shows it: others' words are logged too.
_CONTROLS = re.compile("[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What is logged, and in which form.

    level: the least serious messages that are shown.
    format: lines for people, or one JSON object a line.
    """

    level: str = "info"
    format: str = "text"


def add_log_flags(parser: argparse.ArgumentParser) -> None:
    """Add ``--log-level`` and ``--log-format``."""
    default = LogSettings()
    parser.add_argument(
        "--log-level",
        choices=LEVELS,
        default=default.level,
        help="The least serious messages that are logged. Default: %(default)s.",
    )
    parser.add_argument(
        "--log-format",
        choices=FORMATS,
        default=default.format,
        help="Lines for people, or one JSON object a line. Default: %(default)s.",
    )


def log_settings_of(args: argparse.Namespace) -> LogSettings:
    """Settings from parsed flags."""
    return LogSettings(level=args.log_level, format=args.log_format)


def configure_logs(settings: LogSettings) -> None:
    """Log to standard error from now on.

    Libraries tell every step at ``info``, so theirs counts as ``debug``, and their ``debug``, which
    has whole answers in it, is never shown.
    """
    level = getattr(logging, settings.level.upper())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if settings.format == "json" else _TextLines())
    others = logging.INFO if level == logging.DEBUG else max(level, logging.WARNING)
    logging.basicConfig(level=others, handlers=[handler], force=True)
    for name in _OURS:
        logging.getLogger(name).setLevel(level)


class _TextLines(logging.Formatter):
    """``TIME LEVEL LOGGER [OBJECT: ]MESSAGE``, whatever the message holds; below it, set in from
    the edge, the lines of a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        about = _about(record)
        prefix = "" if about is None else f"{about}: "
        head = f"{_time(record)} {record.levelname} {record.name} {prefix}"
        lines = (head + record.getMessage(), *self._traceback(record))
        return "\n  ".join(map(_escaped, lines))

    def _traceback(self, record: logging.LogRecord) -> list[str]:
        return self.formatException(record.exc_info).split("\n") if record.exc_info else []


class _JsonLines(logging.Formatter):
    """One object a line, whatever the message holds."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "object": _about(record),
            "message": record.getMessage(),
            "traceback": self.formatException(record.exc_info) if record.exc_info else None,
        }
        return json.dumps({name: value for name, value in fields.items() if value is not None})


def _escaped(text: str) -> str:
    """With controls as Python writes them, such as ``\\n``."""
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


def _about(record: logging.LogRecord) -> str | None:
    about: str | None = getattr(record, "about", None) or ABOUT.get()
    return about


def _time(record: logging.LogRecord) -> str:
    at = dt.datetime.fromtimestamp(record.created, dt.UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
