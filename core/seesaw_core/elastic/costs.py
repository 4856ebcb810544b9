"""How long an iteration takes on a group of instances, as a function fitted to measurements.

Prefilling the prompts R on a group of degree d takes ``alpha + beta * sum(len) + gamma *
sum(len ** 2)`` seconds: a constant, the matrix products and the attention. Each pair of tensor
size and degree has constants of its own (:mod:`seesaw_core.elastic.fitting`).

A prompt of L tokens of which the first P are cached adds what is left of it: ``beta * (L - P) +
gamma * (L ** 2 - P ** 2)``, since its tokens attend to the cached ones too.

Source: Wu et al., LoongServe (arXiv 2404.09526), section 5.5, the scaling information base.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillCost:
    """Seconds of one prefill iteration at one degree.

    Units: ``alpha_s`` seconds an iteration, ``beta_s`` a token, ``gamma_s`` a squared token.
    """

    alpha_s: float
    beta_s: float
    gamma_s: float

    def seconds(self, lengths: Iterable[int]) -> float:
        """Seconds for prompts of these lengths in one iteration."""
        lengths = tuple(lengths)
        return self.of_sums(sum(lengths), sum(length**2 for length in lengths))

    def of_sums(self, num_tokens: float, squares: float) -> float:
        """Seconds for prompts with this many tokens, and this sum of squared lengths."""
        return self.alpha_s + self.beta_s * num_tokens + self.gamma_s * squares

    @property
    def tipping_tokens(self) -> float:
        """Tokens at which an iteration is bound by arithmetic: twice what alpha would buy.

        From there on more prompts in one iteration save less than a third of its time each.
        """
        return 2 * self.alpha_s / self.beta_s if self.beta_s else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCosts:
    """What the manager knows of iterations: prefill by degree, and when decode wants more.

    ``prefill`` holds each degree from 1 to the number of instances. ``decode_step_s`` is the time
    of a usual decode iteration. From ``decode_requests`` on, a master is bound by arithmetic, so
    that a second one makes the iteration faster. ``migrate_s`` is the time to move one token's KV.
    """

    prefill: Mapping[int, PrefillCost]
    decode_step_s: float
    decode_requests: int
    migrate_s: float
