"""Prompts that wait for a wave, in the order in which they will be admitted.

Requests with equal prompts that wait at the same time share one entry. The queue is first come,
first served, or by priority if the engines schedule by priority. Finding a request or an equal
prompt takes constant time.
"""

import bisect
import itertools
from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

from seesaw_core.resharding.blocks import num_blocks_for
from seesaw_core.resharding.policy import Candidate


@dataclass(slots=True, kw_only=True)
class Prompt:
    """One prompt and the requests that wait for it, each with its priority.

    Units: ``arrived_s`` in seconds of the driver's clock.
    """

    key: str
    identity: Hashable
    num_tokens: int
    arrived_s: float
    readers: dict[str, int] = field(default_factory=dict)
    priorities: Counter[int] = field(default_factory=Counter)

    @property
    def priority(self) -> int:
        """The most urgent reader's priority; lower ones go first, as in vLLM."""
        return min(self.priorities, default=0)

    def join(self, request_id: str, priority: int) -> None:
        self.readers[request_id] = priority
        self.priorities[priority] += 1

    def leave(self, request_id: str) -> None:
        """Remove a reader, if it is present."""
        priority = self.readers.pop(request_id, None)
        if priority is not None:
            self.priorities[priority] -= 1
            if not self.priorities[priority]:
                del self.priorities[priority]


_Place = tuple[int, int]  # priority, then the order of arrival


class WaitingPrompts:
    """The queue before the prefill engine. ``num_tokens`` is the sum of its prompts' tokens.

    Its head is as many prompts as an empty buffer of ``head_blocks`` could take, and one more.
    """

    def __init__(self, *, block_size: int, head_blocks: int, by_priority: bool = False) -> None:
        self.num_tokens = 0
        self._block_size, self._head_blocks = block_size, head_blocks
        self._by_priority = by_priority
        self._numbers = itertools.count()
        self._prompts: OrderedDict[str, Prompt] = OrderedDict()
        self._by_identity: dict[Hashable, Prompt] = {}
        self._by_reader: dict[str, Prompt] = {}
        self._number_of: dict[str, int] = {}
        # Two parallel lists in the order of admission:
        self._places: list[_Place] = []
        self._candidates: list[Candidate] = []
        self._head: tuple[Candidate, ...] | None = ()

    def __len__(self) -> int:
        return len(self._prompts)

    def __iter__(self) -> Iterator[Prompt]:
        """Iterate in the order of admission."""
        return iter([self._prompts[candidate.key] for candidate in self._candidates])

    @property
    def head(self) -> tuple[Candidate, ...]:
        if self._head is None:
            left = self._head_blocks
            for count, candidate in enumerate(self._candidates, start=1):
                left -= num_blocks_for(candidate.num_tokens, self._block_size)
                if left < 0:
                    self._head = tuple(self._candidates[:count])
                    break
            else:
                self._head = tuple(self._candidates)
        return self._head

    def oldest_wait_s(self, now_s: float) -> float:
        """Return how long the earliest arrival has waited; 0 if none waits."""
        first = next(iter(self._prompts.values()), None)
        return 0.0 if first is None else now_s - first.arrived_s

    def find(self, key: str) -> Prompt | None:
        return self._prompts.get(key)

    def add(self, prompt: Prompt, request_id: str, priority: int) -> Prompt:
        """Queue a request with an equal prompt that waits, or else with this new one."""
        equal = self._by_identity.get(prompt.identity)
        if equal is None:
            prompt.join(request_id, priority)
            self._prompts[prompt.key] = self._by_identity[prompt.identity] = prompt
            self._number_of[prompt.key] = next(self._numbers)
            self._insert(prompt)
        else:
            prompt, before = equal, self._place(equal)
            prompt.join(request_id, priority)
            self._move(prompt, before)
        self._by_reader[request_id] = prompt
        return prompt

    def leave(self, request_id: str) -> Prompt | None:
        """Remove a request, and its prompt with the last one. Returns None if it does not wait."""
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
        """Remove a prompt with all its readers. Returns None if it does not wait."""
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
        self._note_change(index)
        self._places.insert(index, place)
        self._candidates.insert(index, Candidate(key=prompt.key, num_tokens=prompt.num_tokens))
        self.num_tokens += prompt.num_tokens

    def _cut(self, place: _Place) -> None:
        index = bisect.bisect_left(self._places, place)
        self._note_change(index)
        del self._places[index]
        self.num_tokens -= self._candidates.pop(index).num_tokens

    def _note_change(self, index: int) -> None:
        """Forget the head if a change at ``index`` may affect it."""
        if self._head is not None and (
            index < len(self._head) or len(self._head) == len(self._candidates)
        ):
            self._head = None
