"""The phase policy: when to prefill, when to decode, when the decode engine does both.

The policy looks at a :class:`View` and returns one :class:`Step` with its reason. It holds no
state and reads no clock; :mod:`seesaw_core.resharding.driver` keeps the books behind the view.

Source: Su et al., Seesaw (arXiv 2503.06433), section 4.2, transition-minimising scheduling.
Deviation: the flush timeout, the dwell time and prefilling in place are ours; the paper's
policy serves offline work only.
"""

from dataclasses import dataclass
from enum import StrEnum

from seesaw_core.errors import InputError
from seesaw_core.resharding.blocks import num_blocks_for

# A wait shorter than this is over: sums of floats on a virtual clock may never quite get there.
_INSTANT_S = 1e-6
# Share of the flush timeout that running requests get after a flush, however little is stored.
CATCH_UP = 0.5


class Phase(StrEnum):
    """Which engine owns the devices."""

    PREFILL = "prefill"
    DECODE = "decode"


class Reshard(StrEnum):
    """What the user wants of re-sharding."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A prompt that waits for a wave. ``num_tokens`` of it go through the buffer."""

    key: str
    num_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Admit:
    """Give the prompts with these keys to the prefill engine, in this order."""

    prompts: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InPlace:
    """Let the decode engine prefill the prompts with these keys itself, in this order."""

    prompts: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """Hand the devices to the other engine."""

    to: Phase
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Nothing to do until something happens, or for ``at_most_s`` seconds."""

    at_most_s: float | None
    reason: str


Step = Admit | InPlace | Switch | Wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What the worker has measured so far; None where it has not yet.

    Units: prompt tokens per second; ``transition_s`` in seconds in which neither engine can work,
    so without the step that the old one finishes first.
    """

    transition_s: float | None = None
    prefill_tokens_per_s: float | None = None
    in_place_tokens_per_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All that the policy may know.

    ``waiting`` holds the prompts that wait for a wave, in the order in which they go: as many as
    an empty buffer could take at once, and one more if more wait.
    ``stored_tokens`` of the buffer hold KV that the decode engine is yet to take, ``free_tokens``
    are unused; the rest is kept for prompts inside the prefill engine.
    ``num_prefilling`` counts prompts inside the prefill engine, ``num_decoding`` requests inside
    the decode engine, loading ones included. Units: tokens, seconds.
    """

    phase: Phase
    phase_age_s: float
    waiting: tuple[Candidate, ...]
    oldest_wait_s: float
    num_prefilling: int
    num_decoding: int
    decode_has_room: bool
    free_tokens: int
    stored_tokens: int
    capacity_tokens: int
    block_size: int
    costs: Costs


@dataclass(frozen=True, slots=True, kw_only=True)
class PhasePolicy:
    """Prefill until the buffer is full, decode until it is nearly empty.

    reshard: ``auto`` re-shards where it pays, ``always`` whenever it can, ``never`` not at all.
    flush_timeout_s: the longest time that a phase may keep prompts waiting or running requests
        stalled while the buffer asks for no change. The dwell time applies if it is longer, so
        that a short timeout cannot make the worker do nothing but switch.
    low_watermark: share of the buffer below which it counts as nearly empty.
    dwell_transitions: how many transition times a decode phase lasts at least while it has
        work, so that transitions cannot eat the gain (hysteresis).
    min_gain: how much faster than prefilling in place a wave must be to be worth it.

    Raises: InputError if a figure is out of range.
    """

    reshard: Reshard = Reshard.AUTO
    flush_timeout_s: float = 10.0
    low_watermark: float = 0.2
    dwell_transitions: float = 3.0
    min_gain: float = 1.1

    def __post_init__(self) -> None:
        if not self.flush_timeout_s > 0:
            raise InputError(f"flush timeout must be above 0 s, got {self.flush_timeout_s}")
        if not 0 <= self.low_watermark < 1:
            raise InputError(f"low watermark must be in [0, 1), got {self.low_watermark}")
        if not self.dwell_transitions >= 0:
            raise InputError(f"dwell must not be negative, got {self.dwell_transitions}")
        if not self.min_gain >= 1:
            raise InputError(f"minimum gain must be at least 1, got {self.min_gain}")

    def next_step(self, view: View) -> Step:
        """Choose the next step, changing phase as rarely as possible.

        Requires: no prompt in ``waiting`` is larger than the whole buffer.
        """
        if view.phase is Phase.PREFILL:
            return self._while_prefilling(view)
        return self._while_decoding(view)

    def _while_prefilling(self, view: View) -> Step:
        flush_in = self._flush_s(view) - view.phase_age_s
        if view.num_decoding and flush_in <= _INSTANT_S:
            return Switch(to=Phase.DECODE, reason="running requests stood still too long")
        is_off = self.reshard is Reshard.NEVER
        fitting = () if is_off else _fitting(view, view.free_tokens)
        if fitting:
            return Admit(prompts=_keys(fitting), reason="the buffer has room")
        if view.num_prefilling:
            left = flush_in if view.num_decoding else None
            return Wait(at_most_s=left, reason="prompts are being prefilled")
        if is_off:
            return Switch(to=Phase.DECODE, reason="re-sharding is off")
        if view.waiting:
            return Switch(to=Phase.DECODE, reason="the buffer cannot take the next prompt")
        return Switch(to=Phase.DECODE, reason="no prompt waits")

    def _while_decoding(self, view: View) -> Step:
        if view.num_prefilling:
            return self._resume_prefill(view)
        if not view.waiting:
            return Wait(at_most_s=None, reason="no prompt waits")
        if self.reshard is Reshard.NEVER:
            return InPlace(prompts=_keys(view.waiting), reason="re-sharding is off")
        if self.reshard is Reshard.AUTO and not self._pays(view):
            return self._prefill_in_place(view)
        return self._start_prefill(view)

    def _prefill_in_place(self, view: View) -> Step:
        """Fill the decode engine one prompt at a time, so that the rest may yet make a wave.

        As long as nobody knows what prefilling in place costs, one prompt goes ahead to
        measure it, and the others follow only if that takes too long.
        """
        if not view.decode_has_room:
            return Wait(at_most_s=None, reason="the decode engine is full; prompts gather")
        if view.costs.in_place_tokens_per_s is None and view.num_decoding:
            learn_in = self.flush_timeout_s - view.oldest_wait_s
            if learn_in > _INSTANT_S:
                return Wait(at_most_s=learn_in, reason="a first prompt shows what in place costs")
        return InPlace(prompts=_keys(view.waiting[:1]), reason="a transition would not pay")

    def _start_prefill(self, view: View) -> Step:
        if not _fitting(view, view.free_tokens):
            return Wait(at_most_s=None, reason="the buffer has no room for the next prompt")
        if not view.num_decoding:
            return Switch(to=Phase.PREFILL, reason="nothing is decoding and prompts wait")
        dwell_left = self._dwell_s(view) - view.phase_age_s
        if dwell_left > _INSTANT_S:
            return Wait(at_most_s=dwell_left, reason="this decode phase has just begun")
        if self._is_nearly_empty(view):
            return Switch(to=Phase.PREFILL, reason="the buffer is nearly empty and prompts wait")
        # Prompts that the last wave left over have waited through it already: count this phase
        # alone, or a backlog older than the timeout would end every decode phase at once.
        flush_in = self.flush_timeout_s - min(view.oldest_wait_s, view.phase_age_s)
        if flush_in <= _INSTANT_S:
            return Switch(to=Phase.PREFILL, reason="the oldest prompt waited too long")
        return Wait(at_most_s=flush_in, reason="the buffer still feeds the decode engine")

    def _resume_prefill(self, view: View) -> Step:
        """Go on after a flush, once the running requests, which stood still, have caught up.

        With nothing left to load the decode engine runs ever emptier, so that takes less long.
        """
        ends_s = self._flush_s(view)
        if self._is_nearly_empty(view):
            ends_s = max(CATCH_UP * self.flush_timeout_s, self._dwell_s(view))
        left = ends_s - view.phase_age_s
        if view.num_decoding and left > _INSTANT_S:
            return Wait(at_most_s=left, reason="running requests catch up before prefill resumes")
        return Switch(to=Phase.PREFILL, reason="half-prefilled prompts wait")

    def _is_nearly_empty(self, view: View) -> bool:
        return view.stored_tokens <= self.low_watermark * view.capacity_tokens

    def _dwell_s(self, view: View) -> float:
        return self.dwell_transitions * (view.costs.transition_s or 0.0)

    def _flush_s(self, view: View) -> float:
        return max(self.flush_timeout_s, self._dwell_s(view))

    def _pays(self, view: View) -> bool:
        """Whether two transitions and a wave beat prefilling the same prompts in place.

        The wave is what the buffer could take once it is empty: judged by what is free now, no
        wave would ever pay while the last one still drains.
        """
        costs = view.costs
        if costs.in_place_tokens_per_s is None:
            return False
        wave = sum(prompt.num_tokens for prompt in _fitting(view, view.capacity_tokens))
        transitions_s = 2 * (costs.transition_s or 0.0)
        in_place_s = wave / costs.in_place_tokens_per_s
        if costs.prefill_tokens_per_s is None:
            return in_place_s > 2 * transitions_s
        wave_s = transitions_s + wave / costs.prefill_tokens_per_s
        return in_place_s > self.min_gain * wave_s


def _fitting(view: View, room_tokens: int) -> tuple[Candidate, ...]:
    """Return the next prompts that fit together into ``room_tokens``, in whole blocks."""
    left = room_tokens
    for count, prompt in enumerate(view.waiting):
        left -= num_blocks_for(prompt.num_tokens, view.block_size) * view.block_size
        if left < 0:
            return view.waiting[:count]
    return view.waiting


def _keys(prompts: tuple[Candidate, ...]) -> tuple[str, ...]:
    return tuple(prompt.key for prompt in prompts)
