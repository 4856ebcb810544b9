"""What a condition says, before it has a generation and a time."""

from dataclasses import dataclass
from typing import Literal

Truth = Literal["True", "False", "Unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why something is so: one word for programs, and a message for people."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionState:
    """One condition without its generation and its time."""

    type: str
    status: Truth
    cause: Cause
