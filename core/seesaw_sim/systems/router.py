"""Routers: which server gets a request, and when.

The router for servers that re-shard uses the real router's wave policy,
:mod:`seesaw_core.routing.waves`. The other one balances the tokens among the servers.
"""

from collections import OrderedDict
from collections.abc import Sequence as Listed
from dataclasses import dataclass
from typing import Protocol

from seesaw_core.routing.waves import Hold, Prompt, Queue, WavePolicy
from seesaw_sim.clock import Clock, Timer
from seesaw_sim.replicas import Server
from seesaw_sim.sequences import Sequence
from seesaw_sim.systems.resharding import SeesawServer


class Router(Protocol):
    def take(self, sequence: Sequence) -> None: ...


class LeastLoaded:
    """Sends each request to the server with the fewest tokens so far, known in advance."""

    def __init__(self, servers: Listed[Server]) -> None:
        self._sent_tokens = [0] * len(servers)
        self._servers = servers

    def take(self, sequence: Sequence) -> None:
        index = self._sent_tokens.index(min(self._sent_tokens))
        self._sent_tokens[index] += sequence.prompt_tokens + sequence.output_left
        self._servers[index].take(sequence)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gathered:
    """A waiting sequence, and the wave policy's view of it."""

    prompt: Prompt
    sequence: Sequence


class Waves:
    """Gathers prompts into waves, and lets the servers take turns.

    Call order: :meth:`set_servers` once, then the rest.
    """

    def __init__(self, clock: Clock, policy: WavePolicy) -> None:
        self._clock = clock
        self._policy = policy
        self._servers: dict[str, SeesawServer] = {}
        self._queue: OrderedDict[int, _Gathered] = OrderedDict()
        self._alarm: Timer | None = None

    def set_servers(self, servers: Listed[SeesawServer]) -> None:
        self._servers = {s.replica().name: s for s in servers}

    def take(self, sequence: Sequence) -> None:
        prompt = Prompt(id=sequence.number, tokens=sequence.prompt_tokens)
        self._queue[prompt.id] = _Gathered(prompt=prompt, sequence=sequence)
        self.changed()

    def changed(self) -> None:
        """Look again for a step after a server's state has changed."""
        if self._queue:
            self._clock.settle(self._drive)

    def _drive(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        while self._queue:
            replicas = [s.replica() for s in self._servers.values()]
            room = max(r.room_tokens for r in replicas)
            oldest = next(iter(self._queue.values())).sequence
            head = self._head(room)
            queue = Queue(
                prompts=head,
                oldest_wait_s=self._clock.now_s - oldest.arrival_s,
                num_behind=len(self._queue) - len(head),
            )
            step = self._policy.next_step(queue, replicas)
            if isinstance(step, Hold):
                if step.at_most_s is not None:
                    ends_s = self._clock.now_s + step.at_most_s
                    self._alarm = self._clock.at(ends_s, self._wake)
                return
            for request in step.requests:
                self._servers[step.replica].take(self._queue.pop(request).sequence)

    def _wake(self) -> None:
        self._alarm = None
        self.changed()

    def _head(self, room_tokens: int) -> tuple[Prompt, ...]:
        """Return the prompts that fit the server with the most room, and one more."""
        head, total = [], 0
        for gathered in self._queue.values():
            head.append(gathered.prompt)
            total += gathered.prompt.tokens
            if total > room_tokens:
                break
        return tuple(head)
