"""Prompts that wait for a wave, in the order in which they will go.

Requests with the very same prompt that wait together share one way to the buffer. First come,
first served, unless the engines schedule by priority: then so does the queue. Knows no engine.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from seesaw_worker.engine import requests


@dataclass(slots=True, kw_only=True)
class Prompt:
    """One prompt and all requests that wait for it. Units: seconds of the clock."""

    key: str
    identity: Any
    num_tokens: int
    arrived_s: float
    readers: dict[str, Any]

    @property
    def priority(self) -> int:
        """That of the most urgent reader: the lower, the sooner, as in vLLM."""
        return min((r.priority for r in self.readers.values()), default=0)


class WaitingPrompts:
    """The queue before the prefill engine."""

    def __init__(self, *, by_priority: bool = False) -> None:
        self._by_priority = by_priority
        self._prompts: dict[str, Prompt] = {}

    def __len__(self) -> int:
        return len(self._prompts)

    def __iter__(self) -> Iterator[Prompt]:
        """In the order in which they go."""
        prompts = self._prompts.values()
        if self._by_priority:
            return iter(sorted(prompts, key=lambda p: (p.priority, p.arrived_s)))
        return iter(prompts)

    @property
    def tokens(self) -> tuple[int, ...]:
        """Tokens of each prompt that the buffer would carry, in the order in which they go."""
        return tuple(p.num_tokens for p in self)

    def oldest_wait_s(self, now_s: float) -> float:
        """How long the first that came has waited; 0 if none waits."""
        return now_s - min((p.arrived_s for p in self._prompts.values()), default=now_s)

    def join(self, request: Any, num_tokens: int) -> bool:
        """Let ``request`` share the way of an equal prompt. False if none waits."""
        identity = requests.prompt_identity(request)
        for prompt in self._prompts.values():
            if prompt.num_tokens == num_tokens and prompt.identity == identity:
                prompt.readers[request.request_id] = request
                return True
        return False

    def add(self, key: str, request: Any, num_tokens: int, now_s: float) -> None:
        """Queue a new prompt under ``key``."""
        self._prompts[key] = Prompt(
            key=key,
            identity=requests.prompt_identity(request),
            num_tokens=num_tokens,
            arrived_s=now_s,
            readers={request.request_id: request},
        )

    def first(self, count: int) -> list[Prompt]:
        """The next ``count`` prompts; they stay queued."""
        return list(self)[:count]

    def remove(self, key: str) -> Prompt | None:
        """Take a prompt out; None if it waits no more."""
        return self._prompts.pop(key, None)
