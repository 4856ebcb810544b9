"""One view, one step: what the policy does next, and why."""

from dataclasses import replace

import pytest

from seesaw_core.errors import InputError
from seesaw_core.resharding.policy import (
    Admit,
    Candidate,
    Costs,
    InPlace,
    Phase,
    PhasePolicy,
    Reshard,
    Step,
    Switch,
    View,
    Wait,
)

ALWAYS = PhasePolicy(reshard=Reshard.ALWAYS)
AUTO = PhasePolicy()
NEVER = PhasePolicy(reshard=Reshard.NEVER)

IDLE = View(
    phase=Phase.DECODE,
    phase_age_s=100.0,
    waiting=(),
    oldest_wait_s=0.0,
    num_prefilling=0,
    num_decoding=0,
    decode_has_room=True,
    free_tokens=1600,
    stored_tokens=0,
    capacity_tokens=1600,
    block_size=16,
    costs=Costs(transition_s=1.0, prefill_tokens_per_s=800.0, in_place_tokens_per_s=100.0),
)
BUSY = replace(IDLE, num_decoding=3)
PREFILLING = replace(IDLE, phase=Phase.PREFILL, phase_age_s=1.0)
UNKNOWN = Costs(transition_s=1.0)


def prompts(*num_tokens: int) -> tuple[Candidate, ...]:
    """Prompts that wait, named 1, 2, 3 in the order in which they go."""
    return tuple(Candidate(key=str(i), num_tokens=n) for i, n in enumerate(num_tokens, start=1))


def shown(step: Step) -> str:
    """A step without its reason."""
    match step:
        case Admit(prompts=keys):
            return f"admit {' '.join(keys)}"
        case InPlace(prompts=keys):
            return f"in place {' '.join(keys)}"
        case Switch(to=to):
            return f"switch to {to}"
        case Wait(at_most_s=at_most_s):
            return "wait" if at_most_s is None else f"wait {at_most_s:g} s"


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        pytest.param(IDLE, "wait", id="waits for a prompt when idle"),
        pytest.param(
            replace(IDLE, phase_age_s=0.0, waiting=prompts(100)),
            "switch to prefill",
            id="switches at once while nothing decodes",
        ),
        pytest.param(
            replace(BUSY, waiting=prompts(100), phase_age_s=2.0),
            "wait 1 s",
            id="dwells three transition times",
        ),
        pytest.param(
            replace(BUSY, waiting=prompts(100), free_tokens=1280, stored_tokens=320),
            "switch to prefill",
            id="switches once the buffer is nearly empty",
        ),
        pytest.param(
            replace(
                BUSY,
                waiting=prompts(100),
                free_tokens=1264,
                stored_tokens=336,
                oldest_wait_s=4.0,
            ),
            "wait 6 s",
            id="waits while the buffer feeds the decode engine",
        ),
        pytest.param(
            replace(
                BUSY,
                waiting=prompts(100),
                free_tokens=112,
                stored_tokens=1488,
                oldest_wait_s=10.0,
            ),
            "switch to prefill",
            id="switches once the oldest prompt waited too long",
        ),
        pytest.param(
            replace(
                BUSY,
                waiting=prompts(100),
                free_tokens=112,
                stored_tokens=1488,
                oldest_wait_s=60.0,
                phase_age_s=4.0,
            ),
            "wait 6 s",
            id="a backlog older than the timeout does not end a phase that has just begun",
        ),
        pytest.param(
            replace(BUSY, waiting=prompts(97), free_tokens=96, oldest_wait_s=60.0),
            "wait",
            id="a full buffer cannot be flushed into",
        ),
        pytest.param(
            replace(BUSY, num_prefilling=1, stored_tokens=336, phase_age_s=4.0),
            "wait 6 s",
            id="lets running requests catch up after a flush",
        ),
        pytest.param(
            replace(BUSY, num_prefilling=1, stored_tokens=320, phase_age_s=4.0),
            "wait 1 s",
            id="lets them catch up half as long once next to nothing is left to load",
        ),
        pytest.param(
            replace(BUSY, num_prefilling=1, phase_age_s=14.0, costs=Costs(transition_s=5.0)),
            "wait 1 s",
            id="lets running requests catch up for the dwell time if that is longer",
        ),
        pytest.param(
            replace(BUSY, num_prefilling=1, stored_tokens=336, phase_age_s=10.0),
            "switch to prefill",
            id="resumes half-prefilled prompts",
        ),
        pytest.param(
            replace(IDLE, num_prefilling=1, phase_age_s=0.0),
            "switch to prefill",
            id="resumes half-prefilled prompts at once while nothing decodes",
        ),
        pytest.param(
            replace(PREFILLING, waiting=prompts(97, 16, 1), free_tokens=128),
            "admit 1 2",
            id="admits whole blocks, oldest first",
        ),
        pytest.param(
            replace(PREFILLING, waiting=prompts(200, 16), free_tokens=128, num_prefilling=1),
            "wait",
            id="does not overtake a prompt that must wait for room",
        ),
        pytest.param(
            replace(PREFILLING, num_prefilling=1, num_decoding=1),
            "wait 9 s",
            id="lets requests stand still no longer than the flush timeout",
        ),
        pytest.param(
            replace(PREFILLING, waiting=prompts(16), num_decoding=1, phase_age_s=10.0),
            "switch to decode",
            id="flushes before it admits more",
        ),
        pytest.param(
            replace(
                PREFILLING,
                num_prefilling=1,
                num_decoding=1,
                phase_age_s=12.0,
                costs=Costs(transition_s=5.0),
            ),
            "wait 3 s",
            id="flushes no sooner than the dwell time",
        ),
        pytest.param(
            replace(PREFILLING, num_prefilling=1, phase_age_s=100.0),
            "wait",
            id="has no need to flush while nothing stands still",
        ),
        pytest.param(
            replace(PREFILLING, waiting=prompts(200), free_tokens=128),
            "switch to decode",
            id="decodes once the buffer is full",
        ),
        pytest.param(PREFILLING, "switch to decode", id="decodes once no prompt waits"),
        pytest.param(
            replace(PREFILLING, num_prefilling=1, num_decoding=1, phase_age_s=10.0 - 1e-12),
            "switch to decode",
            id="a wait too short for a clock to notice is over",
        ),
    ],
)
def test_a_policy_that_always_reshards(view: View, expected: str) -> None:
    assert shown(ALWAYS.next_step(view)) == expected


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        # 1,000 tokens: 10 s in place, 2 + 1.25 s as a wave.
        pytest.param(
            replace(IDLE, waiting=prompts(1000)), "switch to prefill", id="re-shards where it pays"
        ),
        # 250 tokens: 2.5 s in place, 2 + 0.31 s as a wave: faster, but not by a tenth.
        pytest.param(
            replace(IDLE, waiting=prompts(200, 50)), "in place 1", id="asks for a minimum gain"
        ),
        pytest.param(
            replace(BUSY, waiting=prompts(100), decode_has_room=False),
            "wait",
            id="lets prompts gather while the decode engine is full",
        ),
        pytest.param(
            replace(BUSY, waiting=prompts(*[1000] * 5), free_tokens=0),
            "wait",
            id="does not give up waves because the last one still fills the buffer",
        ),
        pytest.param(
            replace(IDLE, waiting=prompts(*[1000] * 5), costs=UNKNOWN),
            "in place 1",
            id="one prompt goes ahead to measure",
        ),
        pytest.param(
            replace(BUSY, waiting=prompts(*[1000] * 4), oldest_wait_s=4.0, costs=UNKNOWN),
            "wait 6 s",
            id="the others wait for the measurement",
        ),
        pytest.param(
            replace(BUSY, waiting=prompts(*[1000] * 4), oldest_wait_s=10.0, costs=UNKNOWN),
            "in place 1",
            id="but not for ever",
        ),
        # Unknown prefill rate: worth a try if in place takes twice as long as both transitions.
        pytest.param(
            replace(
                IDLE,
                waiting=prompts(401),
                costs=replace(IDLE.costs, prefill_tokens_per_s=None),
            ),
            "switch to prefill",
            id="tries a wave that is long enough",
        ),
        pytest.param(
            replace(
                IDLE,
                waiting=prompts(399),
                costs=replace(IDLE.costs, prefill_tokens_per_s=None),
            ),
            "in place 1",
            id="does not try a short wave",
        ),
    ],
)
def test_a_policy_that_weighs_costs(view: View, expected: str) -> None:
    assert shown(AUTO.next_step(view)) == expected


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        pytest.param(
            replace(BUSY, waiting=prompts(9, 9), decode_has_room=False),
            "in place 1 2",
            id="gives every prompt to the decode engine",
        ),
        pytest.param(PREFILLING, "switch to decode", id="leaves a prefill phase"),
        pytest.param(
            replace(PREFILLING, waiting=prompts(9), num_prefilling=1),
            "wait",
            id="finishes half-prefilled prompts instead of switching for ever",
        ),
    ],
)
def test_a_policy_that_never_reshards(view: View, expected: str) -> None:
    assert shown(NEVER.next_step(view)) == expected


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        ({"flush_timeout_s": 0.0}, "flush timeout must be above 0 s, got 0.0"),
        ({"flush_timeout_s": float("nan")}, "flush timeout must be above 0 s, got nan"),
        ({"low_watermark": 1.0}, r"low watermark must be in \[0, 1\), got 1.0"),
        ({"dwell_transitions": -1.0}, "dwell must not be negative, got -1.0"),
        ({"min_gain": 0.9}, "minimum gain must be at least 1, got 0.9"),
    ],
)
def test_figures_out_of_range_are_refused(figures: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PhasePolicy(**figures)  # type: ignore[arg-type]
