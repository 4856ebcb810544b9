"""Simulates a system that serves requests, and reports the results."""

from collections import deque
from collections.abc import Callable
from collections.abc import Sequence as Listed
from dataclasses import dataclass, field
from functools import partial

from seesaw_core.elastic.driver import ElasticDriver
from seesaw_core.elastic.manager import ElasticPolicy
from seesaw_core.errors import CapacityError, InputError, UnsupportedError
from seesaw_core.layouts import Layout, check_layout, check_pair
from seesaw_core.planner.accelerators import Accelerator
from seesaw_core.planner.costs import MicroBatch, StepCosts
from seesaw_core.planner.group_costs import GroupStepCosts
from seesaw_core.planner.memory import (
    USUAL_BUFFER_BYTES,
    USUAL_MAX_REQUESTS,
    USUAL_STEP_TOKENS,
    EngineLimits,
    Memory,
    kv_shortage,
    pair_memory,
    static_memory,
)
from seesaw_core.planner.models import Model
from seesaw_core.planner.profiles import Profile
from seesaw_core.planner.workloads import Request
from seesaw_core.resharding.decode_requests import DecodeRoom
from seesaw_core.resharding.driver import Rules
from seesaw_core.resharding.policy import Costs, PhasePolicy, Reshard
from seesaw_core.routing.waves import WavePolicy
from seesaw_sim.clock import Clock
from seesaw_sim.engine import Engine
from seesaw_sim.replicas import Journal, Server
from seesaw_sim.reports import Report, percentiles
from seesaw_sim.sequences import Sequence
from seesaw_sim.systems.disaggregated import DisaggregatedServer
from seesaw_sim.systems.elastic import ElasticServer
from seesaw_sim.systems.resharding import Pair, SeesawServer
from seesaw_sim.systems.router import LeastLoaded, Pools, Router, Waves
from seesaw_sim.systems.static import StaticServer

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A system to simulate. Units in the names.

    Equal layouts are plain vLLM with chunked prefill, unless the policy always re-shards; then two
    engines take turns. With ``disaggregated`` each phase has its own devices: a replica has
    ``prefill.data`` prefill engines and ``decode.data`` decode engines. With ``num_instances`` a
    replica is that many elastic instances, each under ``decode``; with ``block_tokens`` they keep
    the KV of requests that have ended, in blocks of that size. With ``shares_pool`` the prefill
    engine has no pool of its own, as in the paper's system.
    """

    model: Model
    device: Accelerator
    prefill: Layout
    decode: Layout
    num_replicas: int = 1
    profile: Profile = field(default_factory=Profile)
    step_tokens: int = USUAL_STEP_TOKENS
    max_requests: int = USUAL_MAX_REQUESTS
    buffer_bytes: float = USUAL_BUFFER_BYTES
    policy: PhasePolicy = field(default_factory=PhasePolicy)
    waves: WavePolicy = field(default_factory=WavePolicy)
    shares_pool: bool = False
    disaggregated: bool = False
    num_instances: int = 0
    block_tokens: int = 0

    def __post_init__(self) -> None:
        for name in ("num_replicas", "step_tokens", "max_requests"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} must be at least 1")
        if self.disaggregated:
            check_layout(self.prefill, self.model.shape, flag="--prefill")
            check_layout(self.decode, self.model.shape, flag="--decode")
        else:
            check_pair(self.prefill, self.decode, self.model.shape)
        self._refuse_model()

    def _refuse_model(self) -> None:
        """Raises: UnsupportedError for a model that a worker does not serve in this way."""
        model = self.model
        way, why = "re-sharding", model.static_only
        if self.is_static or self.disaggregated:
            return
        if self.num_instances:
            way, why = "elastic instances", None
            if not model.is_plain:
                why = "its layers do not all see all keys and values"
        if why is not None:
            raise UnsupportedError(
                f"{model.name}: {way} cannot serve this model, since {why}; simulate a static "
                "layout"
            )

    @property
    def is_static(self) -> bool:
        always = self.policy.reshard is Reshard.ALWAYS
        is_one = not self.disaggregated and not self.num_instances
        return self.prefill == self.decode and is_one and not always

    @property
    def limits(self) -> EngineLimits:
        return EngineLimits(
            max_requests=self.max_requests,
            buffer_bytes=self.buffer_bytes,
            shares_pool=self.shares_pool,
        )

    @property
    def num_devices(self) -> int:
        """Devices of each replica."""
        apart = self.prefill.num_devices if self.disaggregated else 0
        return apart + max(1, self.num_instances) * self.decode.num_devices

    def costs(self, layout: Layout) -> StepCosts:
        return StepCosts(self.model, self.device, layout, self.profile)


def simulate(
    scenario: Scenario,
    requests: Listed[Request],
    on_progress: OnProgress | None = None,
    *,
    concurrency: int | None = None,
) -> Report:
    """Serve all requests. The same input gives the same report.

    With ``concurrency`` that many requests are in the system at a time, each starting when another
    has ended, and arrival times are ignored.

    Raises: CapacityError if weights or some request do not fit; InputError without requests.
    """
    if not requests:
        raise InputError("there is nothing to simulate: the workload has no requests")
    clock, journal = Clock(), Journal()
    sizes = _Sizes.of(requests)
    system = _System(scenario, clock, journal, sizes)
    sequences = [Sequence(number, r) for number, r in enumerate(requests)]
    if concurrency is None:
        for sequence in sequences:
            clock.at(sequence.arrival_s, partial(system.router.take, sequence))
    else:
        _ClosedLoop(clock, system.router, sequences).start(concurrency)
    if on_progress is not None:
        _report_progress(clock, sequences, on_progress)
    clock.run()
    unfinished = sum(s.finished_s is None for s in sequences)
    assert not unfinished, f"{unfinished} requests never finished"
    return _report(system, sequences, journal)


class _ClosedLoop:
    """Clients that each send a request when their last one is answered."""

    def __init__(self, clock: Clock, router: Router, sequences: Listed[Sequence]) -> None:
        self._clock, self._router = clock, router
        self._waiting = deque(sequences)

    def start(self, num_clients: int) -> None:
        for _ in range(num_clients):
            self._send_next()

    def _send_next(self) -> None:
        if not self._waiting:
            return
        sequence = self._waiting.popleft()
        sequence.arrival_s = self._clock.now_s
        sequence.on_finished = self._send_next
        self._clock.at(self._clock.now_s, partial(self._router.take, sequence))


def _check_room(memory: Memory, costs: StepCosts) -> None:
    if shortage := kv_shortage(memory, costs):
        raise CapacityError(
            f"{costs.model.name} under {costs.layout}: {shortage.reason}; use more or "
            "larger devices, a quantized model, or smaller steps"
        )


class _System:
    """The engines, servers and router of a scenario."""

    def __init__(self, scenario: Scenario, clock: Clock, journal: Journal, sizes: "_Sizes") -> None:
        self.scenario = scenario
        self.engines: list[Engine | ElasticServer] = []
        self.buffer_tokens = 0
        self._clock, self._journal, self._sizes = clock, journal, sizes
        self.router: Router
        if scenario.num_instances:
            elastic = [self._elastic(number) for number in range(scenario.num_replicas)]
            several = len(elastic) > 1
            self.router = Pools(clock, scenario.waves, elastic) if several else elastic[0]
        elif scenario.disaggregated:
            self.router = LeastLoaded(self._each(self._disaggregated, 1))
        elif scenario.is_static:
            self.router = LeastLoaded(self._each(self._static, scenario.decode.data))
        else:
            waves = Waves(clock, scenario.waves)
            servers = [
                self._seesaw(number, waves)
                for number in range(scenario.num_replicas * scenario.decode.data)
            ]
            waves.set_servers(servers)
            self.router = waves if len(servers) > 1 else servers[0]

    def _each(self, make: Callable[[int], Server], data: int) -> list[Server]:
        return [make(number) for number in range(self.scenario.num_replicas * data)]

    def _static(self, number: int) -> Server:
        costs = self.scenario.costs(self.scenario.decode)
        engine = self._engine(costs, self._own_tokens(costs))
        return StaticServer(self._clock, engine, number, self._journal)

    def _seesaw(self, number: int, waves: Waves) -> SeesawServer:
        scenario = self.scenario
        costs, decode_costs = scenario.costs(scenario.prefill), scenario.costs(scenario.decode)
        memory = pair_memory(
            costs, decode_costs, scenario.limits, scenario.step_tokens, self._sizes.longest
        )
        _check_room(memory, decode_costs)
        self.buffer_tokens = memory.buffer_tokens
        prefill = self._engine(costs, memory.prefill_tokens, only_prefills=True)
        decode = self._engine(decode_costs, memory.kv_tokens)
        return SeesawServer(
            self._clock,
            Pair(
                prefill=prefill,
                decode=decode,
                rules=Rules(
                    policy=scenario.policy,
                    decode_room=DecodeRoom.of(
                        num_requests=scenario.max_requests, step_tokens=scenario.step_tokens
                    ),
                    costs=_known_costs(scenario, costs, decode_costs),
                ),
                buffer_tokens=self.buffer_tokens,
            ),
            number=number,
            journal=self._journal,
            on_change=waves.changed,
        )

    def _disaggregated(self, number: int) -> Server:
        scenario = self.scenario
        prefills, decodes = [], []
        for _ in range(scenario.prefill.data):
            costs = scenario.costs(scenario.prefill)
            prefills.append(
                self._engine(costs, self._own_tokens(costs), only_prefills=True, keeps_kv=True)
            )
        for _ in range(scenario.decode.data):
            costs = scenario.costs(scenario.decode)
            decodes.append(self._engine(costs, self._own_tokens(costs)))
        return DisaggregatedServer(self._clock, prefills, decodes, number, self._journal)

    def _elastic(self, number: int) -> ElasticServer:
        scenario = self.scenario
        costs = scenario.costs(scenario.decode)
        groups = GroupStepCosts(costs)
        driver = ElasticDriver(
            ElasticPolicy(),
            groups.fitted(scenario.num_instances, groups.decode_requests),
            [self._own_tokens(costs)] * scenario.num_instances,
            max_requests=scenario.max_requests,
            block_tokens=scenario.block_tokens,
        )
        first = number * scenario.num_instances
        server = ElasticServer(self._clock, driver, groups, number=first, journal=self._journal)
        self.engines.append(server)
        return server

    def _own_tokens(self, costs: StepCosts) -> int:
        """Return the KV pool of an engine that owns its devices."""
        memory = static_memory(
            costs, self.scenario.limits, self.scenario.step_tokens, self._sizes.mean_context
        )
        _check_room(memory, costs)
        return memory.kv_tokens

    def _engine(
        self,
        costs: StepCosts,
        room: int,
        *,
        only_prefills: bool = False,
        keeps_kv: bool = False,
    ) -> Engine:
        engine = Engine(
            costs,
            capacity_tokens=room,
            step_tokens=self.scenario.step_tokens,
            max_requests=self.scenario.max_requests,
            only_prefills=only_prefills,
            keeps_kv=keeps_kv,
        )
        self.engines.append(engine)
        return engine


def _known_costs(scenario: Scenario, prefill: StepCosts, decode: StepCosts) -> Costs:
    """Return the costs that a worker has measured by the end of its warm-up."""

    def rate(costs: StepCosts) -> float:
        tokens = scenario.step_tokens
        step_s = costs.step_s(
            MicroBatch(prefill_tokens=tokens, prefill_pairs=tokens**2 / 2, sampled=1)
        )
        return tokens / step_s

    return Costs(
        transition_s=(prefill.transition_s() + decode.transition_s()) / 2,
        prefill_tokens_per_s=rate(prefill),
        in_place_tokens_per_s=rate(decode),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sizes:
    """Tokens of the longest request, and of a running one on average."""

    longest: int
    mean_context: float

    @classmethod
    def of(cls, requests: Listed[Request]) -> "_Sizes":
        outputs = sum(r.output_tokens for r in requests)
        held = sum(r.output_tokens * (r.prompt_tokens + r.output_tokens / 2) for r in requests)
        return cls(
            longest=max(r.prompt_tokens + r.output_tokens for r in requests),
            mean_context=max(1.0, held / max(1, outputs)),
        )


def _report_progress(clock: Clock, sequences: list[Sequence], on_progress: OnProgress) -> None:
    """Report some hundred times how many requests are done."""
    last_s = max(s.arrival_s for s in sequences)
    every_s = max(1.0, last_s / 200)

    def report() -> None:
        done = sum(s.finished_s is not None for s in sequences)
        on_progress(done, len(sequences))
        if done < len(sequences):  # ever more seldom, since no one knows how long it will take
            clock.at(clock.now_s + max(every_s, clock.now_s / 50), report)

    clock.at(0.0, report)


def _report(system: _System, sequences: list[Sequence], journal: Journal) -> Report:
    began_s = min(s.arrival_s for s in sequences)
    duration_s = max(s.finished_s or 0.0 for s in sequences) - began_s
    prompts = sum(s.request.prompt_tokens for s in sequences)
    outputs = sum(s.request.output_tokens for s in sequences)
    ttft, tpot, latency = [], [], []
    for s in sequences:
        assert s.first_token_s is not None
        assert s.finished_s is not None
        ttft.append(s.first_token_s - s.arrival_s)
        latency.append(s.finished_s - s.arrival_s)
        if s.request.output_tokens > 1:
            tpot.append((s.finished_s - s.first_token_s) / (s.request.output_tokens - 1))
    return Report(
        num_requests=len(sequences),
        prompt_tokens=prompts,
        output_tokens=outputs,
        duration_s=duration_s,
        requests_per_s=len(sequences) / duration_s,
        output_tokens_per_s=outputs / duration_s,
        total_tokens_per_s=(prompts + outputs) / duration_s,
        ttft=percentiles(ttft),
        tpot=percentiles(tpot or [0.0]),
        latency=percentiles(latency),
        transitions=journal.num_transitions,
        preemptions=sum(e.num_preemptions for e in system.engines),
        generated_tokens=sum(e.num_generated for e in system.engines),
        left_tokens=sum(e.used_tokens for e in system.engines) + sum(journal.held.values()),
        seconds_by_phase=dict(journal.seconds),
        peak_pool_share=max(
            e.peak_tokens / e.capacity_tokens for e in system.engines if not e.only_prefills
        ),
        peak_buffer_tokens=journal.peak_buffer_tokens,
        peak_stored_tokens=journal.peak_stored_tokens,
        buffer_tokens=system.buffer_tokens,
        stretches=tuple(journal.stretches),
        buffer=tuple(journal.buffer),
    )
