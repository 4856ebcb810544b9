"""Routers: which server gets a request, and when.

The one for servers that re-shard asks the wave policy in :mod:`seesaw_core.routing.waves`, the
router's own; the other sends each request to the server with the least left to do.
"""

from collections import deque
from collections.abc import Sequence as Listed
from typing import Protocol

from seesaw_core.routing.waves import Hold, Queue, WavePolicy
from seesaw_sim.clock import Clock, Timer
from seesaw_sim.replicas import Server
from seesaw_sim.sequences import Sequence
from seesaw_sim.systems.resharding import SeesawServer


class Router(Protocol):
    def take(self, sequence: Sequence) -> None: ...


class LeastLoaded:
    """To the server that was given the fewest tokens so far: known lengths, no feedback."""

    def __init__(self, servers: Listed[Server]) -> None:
        self._given = [0] * len(servers)
        self._servers = servers

    def take(self, sequence: Sequence) -> None:
        index = self._given.index(min(self._given))
        self._given[index] += sequence.prompt_tokens + sequence.output_left
        self._servers[index].take(sequence)


class Waves:
    """Gathers prompts into waves, and lets the servers take turns."""

    def __init__(self, clock: Clock, policy: WavePolicy) -> None:
        self._clock = clock
        self._policy = policy
        self._servers: dict[str, SeesawServer] = {}
        self._queue: deque[Sequence] = deque()
        self._alarm: Timer | None = None

    def become(self, servers: Listed[SeesawServer]) -> None:
        self._servers = {s.replica().name: s for s in servers}

    def take(self, sequence: Sequence) -> None:
        self._queue.append(sequence)
        self.changed()

    def changed(self) -> None:
        """A server's state has changed."""
        if self._queue:
            self._clock.settle(self._drive)

    def _drive(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        while self._queue:
            replicas = [s.replica() for s in self._servers.values()]
            room = max(r.room_tokens for r in replicas)
            wait_s = self._clock.now_s - self._queue[0].arrival_s
            head = self._head(room)
            queue = Queue(
                tokens=head, oldest_wait_s=wait_s, num_behind=len(self._queue) - len(head)
            )
            step = self._policy.next_step(queue, replicas)
            if isinstance(step, Hold):
                if step.at_most_s is not None:
                    ends_s = self._clock.now_s + step.at_most_s
                    self._alarm = self._clock.at(ends_s, self._wake)
                return
            for _ in range(step.count):
                self._servers[step.replica].take(self._queue.popleft())

    def _wake(self) -> None:
        self._alarm = None
        self.changed()

    def _head(self, room_tokens: int) -> tuple[int, ...]:
        """The prompts that the roomiest server might take, and one more."""
        head, total = [], 0
        for sequence in self._queue:
            head.append(sequence.prompt_tokens)
            total += sequence.prompt_tokens
            if total > room_tokens:
                break
        return tuple(head)
