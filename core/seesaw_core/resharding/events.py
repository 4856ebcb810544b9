"""What a driver is told: what has happened to prompts, requests and engines.

A prompt's ``key`` names its entry in the buffer; a ``request_id`` names one request, of which
several may share a prompt. Units: tokens, seconds.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum

from seesaw_core.resharding.policy import Phase


class Ending(StrEnum):
    """How a request's outputs end. An engine rejects what it cannot do."""

    FINISHED = "finished"
    ABORTED = "aborted"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A request has come that waits for a wave, with the equal prompt that waits or as ``key``.

    Requests have equal prompts if their ``identity`` is equal; None is equal to nothing.
    ``num_tokens`` of the prompt go through the buffer.
    """

    request_id: str
    key: str
    num_tokens: int
    identity: Hashable = None
    priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """A prompt goes to the prefill engine. Requires: it waits."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillEnded:
    """The prefill engine is done with a prompt, and writes its blocks no more."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """All of a prompt's KV is in the buffer. Requires: its prefill has ended."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SentToLoad:
    """A request goes to the decode engine, which will load entry ``key`` and release it."""

    request_id: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SentInPlace:
    """A request goes to the decode engine, which will prefill it, wherever it was before."""

    request_id: str
    num_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """The decode engine loads a request's entry."""

    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """The decode engine has loaded a request's entry, or will not."""

    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """The decode engine has given a request's first output."""

    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The decode engine has given a request's last output."""

    request_id: str
    ending: Ending


@dataclass(frozen=True, slots=True, kw_only=True)
class Aborted:
    """A request's client has gone."""

    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A request has made something raise on its way; it may be anywhere, or in two places."""

    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TransitionBegan:
    """The devices are on their way to the engine of phase ``to``."""

    to: Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class TransitionEnded:
    """The engine of phase ``to`` may step; for ``standstill_s`` neither engine could."""

    to: Phase
    standstill_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The decode phase is pinned once more: it stays until it is unpinned as often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LetGo:
    """The decode phase is pinned once less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmedUp:
    """A prompt of ``num_tokens`` took so long in each engine; transitions before do not count."""

    num_tokens: int
    prefill_s: float
    in_place_s: float


RequestEvent = (
    Arrived | Admitted | PrefillEnded | Stored | SentToLoad | SentInPlace | Aborted | Failed
)
DecodeEvent = Loading | Released | Begun | Ended
EngineEvent = TransitionBegan | TransitionEnded | Held | LetGo | WarmedUp
Event = RequestEvent | DecodeEvent | EngineEvent
