"""The cost of a prefill iteration, fitted to measured ones."""

import pytest

from seesaw_core.elastic.costs import PrefillCost
from seesaw_core.elastic.fitting import Sample, fit_prefill_cost
from seesaw_core.errors import InputError

COST = PrefillCost(alpha_s=0.02, beta_s=3e-5, gamma_s=4e-10)
LENGTHS = [(128,), (1024,), (1024, 1024), (16_384,), (131_072,), (512,) * 8]


def test_the_constants_behind_exact_samples_are_found() -> None:
    fit = fit_prefill_cost([Sample(lengths=n, seconds=COST.seconds(n)) for n in LENGTHS])
    assert fit.cost.alpha_s == pytest.approx(COST.alpha_s)
    assert fit.cost.beta_s == pytest.approx(COST.beta_s)
    assert fit.cost.gamma_s == pytest.approx(COST.gamma_s)
    assert fit.worst_error < 1e-9


def test_the_error_of_a_fit_is_that_of_its_samples() -> None:
    noise = [1.05, 0.95, 1.05, 0.95, 1.05, 0.95]
    fit = fit_prefill_cost(
        [
            Sample(lengths=n, seconds=COST.seconds(n) * f)
            for n, f in zip(LENGTHS, noise, strict=True)
        ]
    )
    assert 0.01 < fit.mean_error <= fit.worst_error < 0.11


def test_no_constant_is_negative_even_if_long_prompts_are_cheap() -> None:
    samples = [Sample(lengths=(n,), seconds=s) for n, s in ((100, 1.0), (200, 1.9), (400, 3.0))]
    cost = fit_prefill_cost(samples).cost
    assert min(cost.alpha_s, cost.beta_s, cost.gamma_s) >= 0


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(InputError, match="at least 3 samples, got 2"):
        fit_prefill_cost([Sample(lengths=(1,), seconds=1.0)] * 2)
