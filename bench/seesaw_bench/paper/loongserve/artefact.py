"""The runs of LoongServe's artefact: how many requests it sends to each system, at which rates.

Source: the commands of the artefact's guide (LoongServe/LoongServe, docs/artifact-eval/README.md),
and for LightLLM on L-Eval the list of the paper's own runs in a notebook of the artefact
(6-data-analyse-evaluation.ipynb). Some of the paper's rates lie beyond the guide's runs, so its own
went further; ``run_at`` continues them.
"""

from dataclasses import dataclass

_MOST_REQUESTS = 20_000  # of the artefact's longest runs


@dataclass(frozen=True, slots=True)
class Run:
    """One run: ``count`` requests that arrive at ``per_s`` requests a second."""

    count: int
    per_s: float


def _runs(*pairs: tuple[int, float]) -> tuple[Run, ...]:
    return tuple(Run(count, per_s) for count, per_s in pairs)


def _of_1000_s(*rates: float) -> tuple[Run, ...]:
    return tuple(Run(round(1_000 * per_s), per_s) for per_s in rates)


_FIXED_1_0 = _of_1000_s(0.2, 0.4, 0.7)
_FIXED_1_2 = _of_1000_s(0.4, 1.0, 2.0)
_FIXED_1_4 = _of_1000_s(1.0, 5.0, 7.0)

RUNS: dict[tuple[str, str], tuple[Run, ...]] = {
    ("ShareGPT", "elastic"): _runs(
        (1_000, 1), (19_000, 19), (20_000, 22), (20_000, 24), (20_000, 26), (20_000, 28)
    ),
    ("ShareGPT", "vLLM 0.3"): _runs((1_000, 1), (5_000, 5), (7_000, 7)),
    ("ShareGPT", "SplitFuse"): _runs((1_000, 1), (17_000, 17), (19_000, 19), (20_000, 20)),
    ("ShareGPT", "DistServe"): _runs((200, 1), (500, 5), (2_000, 9), (11_000, 11)),
    ("L-Eval", "elastic"): _runs((100, 0.3), (500, 1.0), (2_000, 2.0), (2_000, 2.2), (3_000, 2.4)),
    ("L-Eval", "vLLM 0.3"): _runs((100, 0.1), (200, 0.4), (500, 0.8), (700, 1.2), (1_000, 1.4)),
    ("L-Eval", "SplitFuse"): _runs(
        (400, 0.8), (500, 1.0), (2_400, 1.2), (2_600, 1.3), (2_800, 1.4), (5_400, 1.5), (5_400, 1.6)
    ),
    ("L-Eval", "DistServe"): _runs((100, 0.1), (300, 0.3), (500, 0.5)),
    ("LV-Eval", "elastic"): _runs(
        (100, 0.1), (100, 0.16), (100, 0.17), (100, 0.18), (100, 0.19), (200, 0.2)
    ),
    ("LV-Eval", "vLLM 0.3"): _runs((50, 0.03), (100, 0.05), (200, 0.08)),
    ("LV-Eval", "SplitFuse"): _runs((50, 0.03), (100, 0.05), (300, 0.07), (300, 0.09)),
    ("LV-Eval", "DistServe"): _runs((50, 0.03), (100, 0.05)),  # tried, since it cannot serve them
    ("Mixed", "elastic"): _runs(
        (100, 0.1), (200, 0.3), (200, 0.4), (600, 0.45), (600, 0.5), (800, 0.6)
    ),
    ("Mixed", "vLLM 0.3"): _runs((100, 0.1), (200, 0.16), (200, 0.18), (200, 0.2), (230, 0.23)),
    ("Mixed", "SplitFuse"): _runs((70, 0.07), (100, 0.1), (200, 0.14)),
    ("Mixed", "DistServe"): _runs((70, 0.07), (100, 0.1)),  # tried, since it cannot serve them
    ("Zipf 1.0", "elastic"): _of_1000_s(0.7, 0.8, 1.0, 1.2, 1.4),
    ("Zipf 1.0", "TP8"): _FIXED_1_0,
    ("Zipf 1.0", "TP2 × SP4"): _FIXED_1_0,
    ("Zipf 1.0", "TP2, four replicas"): _FIXED_1_0,
    ("Zipf 1.2", "elastic"): _of_1000_s(2.4, 2.6, 2.8, 3.0, 3.2),
    ("Zipf 1.2", "TP8"): _FIXED_1_2,
    ("Zipf 1.2", "TP2 × SP4"): _FIXED_1_2,
    ("Zipf 1.2", "TP2, four replicas"): _FIXED_1_2,
    ("Zipf 1.4", "elastic"): _of_1000_s(6, 7, 8, 9, 10),
    ("Zipf 1.4", "TP8"): _FIXED_1_4,
    ("Zipf 1.4", "TP2 × SP4"): _FIXED_1_4,
    ("Zipf 1.4", "TP2, four replicas"): _FIXED_1_4,
}


def run_at(runs: tuple[Run, ...], index: int) -> Run:
    """Return the run at an index. Below the first rates halve, beyond the last the step stays."""
    if index < 0:
        first = runs[0]
        return Run(first.count, first.per_s * 2.0**index)
    if index < len(runs):
        return runs[index]
    last, step = runs[-1], runs[-1].per_s - runs[-2].per_s
    per_s = last.per_s + step * (index - len(runs) + 1)
    return Run(min(_MOST_REQUESTS, round(last.count * per_s / last.per_s)), per_s)
