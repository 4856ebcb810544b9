"""The paper's other figures: A100 with and without NVLink, outputs against inputs, ablations."""

from dataclasses import dataclass, replace

from seesaw_bench.paper.cells import MODELS, OFFLINE, PROFILE, Testbed, device, requests
from seesaw_core.layouts import Layout, LayoutPair
from seesaw_core.planner.profiles import Profile
from seesaw_core.planner.workloads import Request
from seesaw_core.resharding.policy import PhasePolicy, Reshard
from seesaw_core.units import GIB

A100_PAPER = {
    ("A100 PCIe", "arXiv"): (0.61, 0.89),
    ("A100 PCIe", "ShareGPT"): (0.62, 0.82),
    ("A100 NVLink", "arXiv"): (1.0, 1.0),
    ("A100 NVLink", "ShareGPT"): (1.0, 1.13),
}
SWEEP_RATIOS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
_T4P2, _P8 = Layout(tensor=4, pipeline=2), Layout(pipeline=8)
SWEEP_P8 = LayoutPair.static(_P8)
SWEEP_STATIC = (
    LayoutPair.static(Layout(tensor=8)),
    LayoutPair.static(_T4P2),
    LayoutPair.static(Layout(tensor=2, pipeline=4)),
    SWEEP_P8,
)
SWEEP_PAIR = LayoutPair(prefill=_P8, decode=_T4P2)
_SWEEP_PROMPT = 3000
_SWEEP_REQUESTS = 500
_SWEEP_STEP = 2048
_BUFFERS_GIB = (1, 2, 5, 10, 20, 60)


@dataclass(frozen=True, slots=True, kw_only=True)
class A100Result:
    """The best static layout and the best pair, with their requests per second."""

    device: str
    work: str
    static: LayoutPair
    static_per_s: float
    pair: LayoutPair
    pair_per_s: float


def run_a100(place: str, work: str, profile: Profile = PROFILE) -> A100Result:
    """LLaMA2-70B on eight A100-40G."""
    testbed = Testbed(model=MODELS["70B"], device=device(place), num_devices=8, profile=profile)
    batch = requests(work)
    statics, pairs = testbed.shortlist(batch)
    static, pair = testbed.simulate_all(statics, batch), testbed.simulate_all(pairs, batch)
    return A100Result(
        device=place,
        work=work,
        static=static.best,
        static_per_s=static.best_per_s,
        pair=pair.best,
        pair_per_s=pair.best_per_s,
    )


def run_sweep(ratio: float, profile: Profile = PROFILE) -> dict[LayoutPair, float]:
    """Requests per second of LLaMA2-70B on eight A10 by the ratio of output to prompt tokens."""
    testbed = _a10(profile)
    output = max(1, round(_SWEEP_PROMPT * ratio))
    batch = [Request(prompt_tokens=_SWEEP_PROMPT, output_tokens=output)] * _SWEEP_REQUESTS
    per_s = {}
    for pair in (*SWEEP_STATIC, SWEEP_PAIR):
        report = testbed.simulate(pair, batch, _SWEEP_STEP)
        if report is not None:
            per_s[pair] = report.requests_per_s
    return per_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """One variant of the pair. Units in the names."""

    name: str
    requests_per_s: float
    transitions: int
    transition_share: float


def run_ablations(profile: Profile = PROFILE) -> list[Ablation]:
    """The KV buffer's size and the transition policy: arXiv, LLaMA2-70B, eight A10, P8→T4P2."""
    testbed, batch = _a10(profile), requests("arXiv")
    eager = replace(OFFLINE, low_watermark=0.9)
    variants: list[tuple[str, PhasePolicy, float]] = [
        *((f"buffer of {gib} GiB a GPU", OFFLINE, gib) for gib in _BUFFERS_GIB),
        ("back to prefill at 90 % full", eager, 60),
        ("flush after 10 s (online)", PhasePolicy(reshard=Reshard.ALWAYS), 60),
        ("flush after 60 s", PhasePolicy(reshard=Reshard.ALWAYS, flush_timeout_s=60.0), 60),
    ]
    ablations = []
    for name, policy, gib in variants:
        report = testbed.simulate(
            SWEEP_PAIR, batch, _SWEEP_STEP, policy=policy, buffer_bytes=gib * GIB
        )
        if report is not None:
            seconds = report.seconds_by_phase
            ablations.append(
                Ablation(
                    name=name,
                    requests_per_s=report.requests_per_s,
                    transitions=report.transitions,
                    transition_share=seconds.get("transition", 0.0) / sum(seconds.values()),
                )
            )
    return ablations


def _a10(profile: Profile) -> Testbed:
    return Testbed(model=MODELS["70B"], device=device("A10"), num_devices=8, profile=profile)
