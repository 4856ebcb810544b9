"""Prompts that wait for a wave, in the order in which they will go.

Requests with the very same prompt that wait together share one way to the buffer. First come,
first served, unless the engines schedule by priority: then so does the queue. How long it takes to
find a request or an equal prompt does not depend on how many wait. Knows no engine.
"""

import bisect
import itertools
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from seesaw_worker.modes.resharding import requests


@dataclass(slots=True, kw_only=True)
class Prompt:
    """One prompt and all requests that wait for it. Units: seconds of the clock."""

    key: str
    identity: requests.Identity
    num_tokens: int
    arrived_s: float
    readers: dict[str, Any] = field(default_factory=dict)
    priorities: Counter[int] = field(default_factory=Counter)

    @property
    def priority(self) -> int:
        """That of the most urgent reader: the lower, the sooner, as in vLLM."""
        return min(self.priorities, default=0)

    def join(self, request: Any) -> None:
        self.readers[request.request_id] = request
        self.priorities[request.priority] += 1

    def leave(self, request_id: str) -> None:
        """Take a reader out. One that is not there is ignored."""
        request = self.readers.pop(request_id, None)
        if request is not None:
            self.priorities[request.priority] -= 1
            if not self.priorities[request.priority]:
                del self.priorities[request.priority]


_Place = tuple[int, int]  # priority, then the order of arrival


class WaitingPrompts:
    """The queue before the prefill engine."""

    def __init__(self, *, by_priority: bool = False) -> None:
        self._by_priority = by_priority
        self._numbers = itertools.count()
        self._prompts: OrderedDict[str, Prompt] = OrderedDict()
        self._by_identity: dict[requests.Identity, Prompt] = {}
        self._by_reader: dict[str, Prompt] = {}
        self._number_of: dict[str, int] = {}
        # In step with each other, in the order in which prompts go:
        self._places: list[_Place] = []
        self._keys: list[str] = []
        self._tokens: list[int] = []

    def __len__(self) -> int:
        return len(self._prompts)

    def __contains__(self, key: str) -> bool:
        return key in self._prompts

    def __iter__(self) -> Iterator[Prompt]:
        """In the order in which they go."""
        return iter(self.first(len(self._keys)))

    @property
    def tokens(self) -> tuple[int, ...]:
        """Tokens of each prompt that the buffer would carry, in the order in which they go."""
        return tuple(self._tokens)

    def oldest_wait_s(self, now_s: float) -> float:
        """How long the first that came has waited; 0 if none waits."""
        first = next(iter(self._prompts.values()), None)
        return 0.0 if first is None else now_s - first.arrived_s

    def add(self, key: str, request: Any, num_tokens: int, now_s: float) -> Prompt:
        """Queue a request: with the equal prompt that waits, or as a new one under ``key``."""
        identity = requests.prompt_identity(request)
        prompt = self._by_identity.get(identity)
        if prompt is None:
            prompt = Prompt(key=key, identity=identity, num_tokens=num_tokens, arrived_s=now_s)
            prompt.join(request)
            self._prompts[key] = self._by_identity[identity] = prompt
            self._number_of[key] = next(self._numbers)
            self._insert(prompt)
        else:
            before = self._place(prompt)
            prompt.join(request)
            self._move(prompt, before)
        self._by_reader[request.request_id] = prompt
        return prompt

    def first(self, count: int) -> list[Prompt]:
        """The next ``count`` prompts; they stay queued."""
        return [self._prompts[key] for key in self._keys[:count]]

    def leave(self, request_id: str) -> Prompt | None:
        """Take one request out, and its prompt with the last; None if it waits no more."""
        prompt = self._by_reader.pop(request_id, None)
        if prompt is None:
            return None
        before = self._place(prompt)
        prompt.leave(request_id)
        if prompt.readers:
            self._move(prompt, before)
        else:
            self._take_out(prompt, before)
        return prompt

    def remove(self, key: str) -> Prompt | None:
        """Take a prompt out with all its readers; None if it waits no more."""
        prompt = self._prompts.get(key)
        if prompt is not None:
            self._take_out(prompt, self._place(prompt))
            for request_id in prompt.readers:
                self._by_reader.pop(request_id, None)
        return prompt

    def _take_out(self, prompt: Prompt, place: _Place) -> None:
        self._cut(place)
        del self._prompts[prompt.key], self._number_of[prompt.key]
        del self._by_identity[prompt.identity]

    def _place(self, prompt: Prompt) -> _Place:
        return (prompt.priority if self._by_priority else 0), self._number_of[prompt.key]

    def _move(self, prompt: Prompt, before: _Place) -> None:
        if self._place(prompt) != before:
            self._cut(before)
            self._insert(prompt)

    def _insert(self, prompt: Prompt) -> None:
        place = self._place(prompt)
        index = bisect.bisect(self._places, place)
        self._places.insert(index, place)
        self._keys.insert(index, prompt.key)
        self._tokens.insert(index, prompt.num_tokens)

    def _cut(self, place: _Place) -> None:
        index = bisect.bisect_left(self._places, place)
        for column in (self._places, self._keys, self._tokens):
            del column[index]
