"""Reads what another part said: from JSON text to the types of the two modules of messages.

Parts of several versions run side by side during a rollout, and a peer may send anything. Unknown
fields are ignored, fields with a default may be missing, and anything else that does not fit is an
error that names the field. All errors are one exception, and all values that are returned have the
declared types and bounds.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from enum import StrEnum
from functools import cache, partial
from types import NoneType, UnionType
from typing import Annotated, Any, Final, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from seesaw_core.errors import MessageError
from seesaw_core.messages import (
    SIGNED,
    WORD,
    EventKind,
    ModeName,
    ReshardingState,
    TimelineEvent,
    TransitionEvent,
    WaveEvent,
    WorkerState,
)
from seesaw_core.router_messages import RouterState

Event = WorkerState | TransitionEvent | WaveEvent | TimelineEvent

_T = TypeVar("_T")
_MAX_NUMBER: Final = 2**63
_SHOWN_CHARACTERS: Final = 40
# Far more than any worker sends: reasons are sentences, lists have up to eight items.
_MAX_CHARACTERS: Final = 16_384
_MAX_WORD: Final = 64
_MAX_ITEMS: Final = 256
_SURROGATES: Final = re.compile("[\ud800-\udfff]")  # what no UTF-8 can carry on
_TYPES: Final[dict[str, type[Event]]] = {
    EventKind.TRANSITION: TransitionEvent,
    EventKind.WAVE: WaveEvent,
    EventKind.TIMELINE: TimelineEvent,
}


def read_event(kind: str, text: bytes) -> Event | None:
    """Read an event of ``/seesaw/events``. Returns None for a kind that is not known.

    Raises: MessageError.
    """
    if kind == EventKind.STATE:
        return read_state(text)
    message = _TYPES.get(kind)
    return None if message is None else read_message(message, parse(text))


def read_state(text: bytes) -> WorkerState:
    """Read a worker's state of any version. Raises: MessageError."""
    data = parse(text)
    if isinstance(data, Mapping) and "mode" not in data:
        return _read_version_0(data)
    state = read_message(WorkerState, data)
    if state.mode == ModeName.RESHARDING and state.resharding is None:
        raise MessageError(ModeName.RESHARDING, "is missing")
    return state


def _read_version_0(data: Mapping[str, object]) -> WorkerState:
    """Read version 0, which had one mode, with its fields beside all others."""
    part = _read_dataclass(ReshardingState, "", data)
    known = {"version": 0, "mode": ModeName.RESHARDING.value}
    own = {f.name for f in fields(ReshardingState)} | {"resharding", "static", "elastic"}
    state = read_message(
        WorkerState, {name: value for name, value in data.items() if name not in own} | known
    )
    return replace(state, resharding=part)


def read_router_state(text: bytes) -> RouterState:
    """Read a router's state, of this version or an earlier one. Raises: MessageError."""
    return read_message(RouterState, parse(text))


def parse(text: bytes) -> Any:
    """Parse JSON. Raises: MessageError for any text that is not JSON."""
    try:
        return json.loads(text.decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise MessageError("", f"is not UTF-8 (byte {error.start})") from error
    except RecursionError as error:
        raise MessageError("", "is nested too deeply") from error
    except ValueError as error:
        raise MessageError("", f"is not JSON ({error})") from error


def read_message(kind: type[_T], data: object) -> _T:
    """Read a message from parsed JSON. Raises: MessageError."""
    return _read_dataclass(kind, "", data)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number in JSON")


def _read_dataclass(kind: type[_T], path: str, data: object) -> _T:
    if not isinstance(data, Mapping):
        raise _wrong(path, "an object", data)
    values = {}
    for name, (read, is_required) in _readers(cast("Any", kind)).items():
        below = f"{path}.{name}" if path else name
        if name in data:
            values[name] = read(below, data[name])
        elif is_required:
            raise MessageError(below, "is missing")
    return kind(**values)


_Reader = Callable[[str, object], Any]


@cache
def _readers(kind: Any) -> dict[str, tuple[_Reader, bool]]:
    """Return a reader for each field of a message, and whether the field is required."""
    assert is_dataclass(kind), kind
    hints = get_type_hints(kind, include_extras=True)
    return {
        f.name: (
            _reader(hints[f.name]),
            f.default is MISSING and f.default_factory is MISSING,
        )
        for f in fields(kind)
    }


def _reader(hint: Any, *, may_be_negative: bool = False) -> _Reader:
    """Return the reader for a type. Covers only the types that messages use."""
    if get_origin(hint) is Annotated:
        inner, *about = get_args(hint)
        return _word if WORD in about else _reader(inner, may_be_negative=SIGNED in about)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (UnionType, Union):
        (present,) = (a for a in arguments if a is not NoneType)
        read = _reader(present, may_be_negative=may_be_negative)
        return lambda path, value: None if value is None else read(path, value)
    if origin is tuple:
        element = _reader(arguments[0])
        return lambda path, value: tuple(
            element(f"{path}[{i}]", each) for i, each in enumerate(_list(path, value))
        )
    if origin is dict:
        element = _reader(arguments[1])
        return lambda path, value: {
            key: element(f"{path}.{_shown_key(key)}", each)
            for key, each in _object(path, value).items()
        }
    if is_dataclass(hint):
        message: type = cast("type", hint)
        return lambda path, value: _read_dataclass(message, path, value)
    if issubclass(hint, StrEnum):
        return lambda path, value: _member(hint, path, value)
    if hint is str:
        return _str
    if hint is bool:
        return _bool
    least = -_MAX_NUMBER if may_be_negative else 0
    return partial({int: _int, float: _float}[hint], least)


def _int(least: int, path: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < _MAX_NUMBER:
        raise _wrong(path, f"a whole number of at least {least} and below 2**63", value)
    return value


def _float(least: int, path: str, value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and value < _MAX_NUMBER:
        number = float(value) if value >= least else math.nan
        if least <= number < _MAX_NUMBER:  # the largest integers are rounded up
            return number
    raise _wrong(path, f"a number of at least {least} and below 2**63", value)


def _bool(path: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _wrong(path, "true or false", value)
    return value


def _str(path: str, value: object) -> str:
    if not isinstance(value, str):
        raise _wrong(path, "a string", value)
    if len(value) > _MAX_CHARACTERS:
        raise _wrong(path, f"a string of at most {_MAX_CHARACTERS} characters", value)
    if _SURROGATES.search(value):
        raise _wrong(path, "a string of Unicode characters", value)
    return value


def _word(path: str, value: object) -> str:
    if not isinstance(value, str) or len(value) > _MAX_WORD or not value.isprintable():
        raise _wrong(path, f"at most {_MAX_WORD} printable characters", value)
    return value


def _list(path: str, value: object) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong(path, "a list", value)
    if len(value) > _MAX_ITEMS:
        raise MessageError(path, f"must have at most {_MAX_ITEMS} items, has {len(value)}")
    return value


def _object(path: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(path, "an object", value)
    if len(value) > _MAX_ITEMS:
        raise MessageError(path, f"must have at most {_MAX_ITEMS} fields, has {len(value)}")
    return value


def _shown_key(key: str) -> str:
    """Return a peer's key in a form that is safe in a line of a log."""
    shown = ascii(key)[1:-1]
    return shown if len(shown) <= _SHOWN_CHARACTERS else shown[:_SHOWN_CHARACTERS] + "…"


def _member(kind: type[StrEnum], path: str, value: object) -> StrEnum:
    if not isinstance(value, str) or value not in list(kind):
        raise _wrong(path, " or ".join(kind), value)
    return kind(value)


def _wrong(path: str, wanted: str, value: object) -> MessageError:
    shown = ascii(value) if not isinstance(value, list | dict) else f"a {type(value).__name__}"
    if len(shown) > _SHOWN_CHARACTERS:
        shown = shown[:_SHOWN_CHARACTERS] + "…"
    return MessageError(path, f"must be {wanted}, is {shown}")
