"""Routers: which server gets a request, and when.

The routers for servers that re-shard and for elastic ones use the real router's policy,
:mod:`seesaw_core.routing.waves`. The other one balances the tokens among the servers.
"""

from collections import OrderedDict
from collections.abc import Sequence as Listed
from dataclasses import dataclass, field, replace
from typing import Protocol

from seesaw_core.routing.pools import Pool
from seesaw_core.routing.waves import Hold, Intake, Prompt, Queue, Release, Replica, WavePolicy
from seesaw_sim.clock import Clock, Timer
from seesaw_sim.replicas import Server
from seesaw_sim.sequences import Sequence
from seesaw_sim.systems.elastic import ElasticServer
from seesaw_sim.systems.resharding import SeesawServer

_STATE_EVERY_S = 1.0  # as a worker does


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


@dataclass(slots=True, kw_only=True)
class _Known:
    """What the router knows of an elastic server: its last state, and what it has sent since."""

    server: ElasticServer
    pool: Pool
    sent_tokens: int = 0
    last_sent: int = -1

    def replica(self, name: str) -> Replica:
        queued_tokens = self.pool.queued_tokens + self.sent_tokens
        return Replica(
            name=name,
            num_running=len(self.server),
            accepts=Intake.ALWAYS,
            pool=replace(self.pool, queued_tokens=queued_tokens),
        )


@dataclass(slots=True)
class Pools:
    """Sends each request to an elastic server at once, by the states that they report."""

    clock: Clock
    policy: WavePolicy
    servers: Listed[ElasticServer]
    _known: dict[str, _Known] = field(default_factory=dict)
    _num_sent: int = 0
    _is_asking: bool = False

    def take(self, sequence: Sequence) -> None:
        if not self._is_asking:
            self._is_asking = True
            self._ask()
        prompt = Prompt(id=sequence.number, tokens=sequence.prompt_tokens)
        named = sorted(self._known.items(), key=lambda item: item[1].last_sent)
        replicas = [known.replica(name) for name, known in named]
        step = self.policy.next_step(Queue(prompts=(prompt,), oldest_wait_s=0.0), replicas)
        assert isinstance(step, Release), step
        chosen = self._known[step.replica]
        chosen.sent_tokens += prompt.tokens
        chosen.last_sent, self._num_sent = self._num_sent, self._num_sent + 1
        chosen.server.take(sequence)

    def _ask(self) -> None:
        """Take in the servers' states, again and again while they have requests."""
        for number, server in enumerate(self.servers):
            known = self._known.get(f"{number:04d}")
            last_sent = -1 if known is None else known.last_sent
            self._known[f"{number:04d}"] = _Known(
                server=server, pool=server.pool(), last_sent=last_sent
            )
        self.clock.at(self.clock.now_s + _STATE_EVERY_S, self._ask_again)

    def _ask_again(self) -> None:
        self._is_asking = any(map(len, self.servers))
        if self._is_asking:
            self._ask()
