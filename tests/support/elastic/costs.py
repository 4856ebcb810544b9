"""What iterations cost where only the books matter: four degrees, each with less gain."""

from seesaw_core.elastic.costs import GroupCosts, PrefillCost

COSTS = GroupCosts(
    prefill={
        degree: PrefillCost(
            alpha_s=0.01 + 0.001 * degree, beta_s=2e-3 / degree, gamma_s=2e-5 / degree
        )
        for degree in range(1, 5)
    },
    decode_step_s=0.02,
    decode_requests=4,
    migrate_s=1e-4,
)
