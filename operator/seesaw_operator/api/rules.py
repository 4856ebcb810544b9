"""CEL rules on models and kinds of values, which the CRD carries into the apiserver."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeVar

from pydantic import BaseModel

from seesaw_operator.api.forms import Form

Kind = Literal["boolean", "integer", "object", "objects", "string", "strings", "time"]
_M = TypeVar("_M", bound=type[BaseModel])
_RULES: dict[type[BaseModel], tuple["Rule", ...]] = {}
_FOREIGN: dict[type[BaseModel], Mapping[str, "Foreign"]] = {}


class Reason(StrEnum):
    """What kind of mistake breaks a rule, for programs."""

    INVALID = "FieldValueInvalid"
    FORBIDDEN = "FieldValueForbidden"
    REQUIRED = "FieldValueRequired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule: a CEL expression that must be true, and what a user reads if not.

    path: the field to correct, below the model, such as ``.prefill.data``; empty for the model.
    told: CEL that makes the message of what was written; without it, the message is told as it is.
    """

    cel: str
    message: str
    told: str = ""
    path: str = ""
    reason: Reason = Reason.INVALID


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """A field of Kubernetes' own that a model does not read.

    kind: what it holds; ``objects`` and ``strings`` are lists, and a ``time`` may be null.
    refusal: why it cannot be set at all, or not to true; None where only other rules are about it.
    form, max_length: what a string looks like.
    """

    kind: Kind
    refusal: str | None = None
    form: Form | None = None
    max_length: int | None = None

    def holds(self, value: object) -> bool:
        """Whether a value is of this kind."""
        if isinstance(value, bool) or self.kind == "boolean":
            return isinstance(value, bool) and self.kind == "boolean"
        if self.kind in ("objects", "strings"):
            each = dict if self.kind == "objects" else str
            return isinstance(value, list) and all(isinstance(item, each) for item in value)
        return isinstance(value, {"integer": int, "object": dict}.get(self.kind, str))


def rules(*added: Rule) -> Callable[[_M], _M]:
    """Put rules on a model."""

    def add(model: _M) -> _M:
        _RULES[model] = added
        return model

    return add


def rules_of(model: type[BaseModel]) -> tuple[Rule, ...]:
    return _RULES.get(model, ())


def foreign(fields: Mapping[str, Foreign]) -> Callable[[_M], _M]:
    """Put fields that are only there for rules on a model and those made of it."""

    def add(model: _M) -> _M:
        _FOREIGN[model] = fields
        return model

    return add


def foreign_of(model: type[BaseModel]) -> Mapping[str, Foreign]:
    return next((_FOREIGN[each] for each in model.__mro__ if each in _FOREIGN), {})
