"""CEL rules on the typed models, which the CRD carries into the apiserver."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel

_M = TypeVar("_M", bound=type[BaseModel])
_RULES: dict[type[BaseModel], tuple["Rule", ...]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule across fields: a CEL expression that must be true, and what a user reads if not."""

    cel: str
    message: str


def rules(*added: Rule) -> Callable[[_M], _M]:
    """Put rules on a model."""

    def add(model: _M) -> _M:
        _RULES[model] = added
        return model

    return add


def rules_of(model: type[BaseModel]) -> tuple[Rule, ...]:
    return _RULES.get(model, ())
