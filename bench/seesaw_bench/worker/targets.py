"""The targets of the project, and the measured ratios."""

from dataclasses import asdict, dataclass
from typing import Any

from seesaw_bench.worker.run import DIRECTIONS, Measured
from seesaw_bench.worker.spread import Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One ratio and its bound, which is an upper one with ``at_most``."""

    name: str
    title: str
    ratio: Spread
    bound: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        return self.ratio.median <= self.bound if self.at_most else self.ratio.median >= self.bound

    def as_json(self) -> dict[str, Any]:
        return {"bound": self.bound, "at_most": self.at_most, "met": self.met} | asdict(self.ratio)


def targets(measured: Measured) -> list[Target]:
    """Return every ratio that has a target."""
    spread = measured.spread
    compared = [
        Target(
            name=f"handover_to_{to}",
            title=f"hand-over to {to} / memcpy",
            ratio=Spread.of_ratios(spread(f"transition.{to}.handover_s"), spread(f"memcpy.{to}.s")),
            bound=1.3,
            at_most=True,
        )
        for to in DIRECTIONS
    ]
    for name, title, above, below, bound in (
        (
            "prefill_with_kv_leaving",
            "prefill, KV leaving / not leaving",
            "prefill.with",
            "prefill.without",
            0.95,
        ),
        (
            "decode_while_kv_arrives",
            "decode, KV arriving / not arriving",
            "arrival.load",
            "arrival.in_place",
            0.95,
        ),
        (
            "decode_against_plain",
            "decode, Seesaw / plain vLLM, same kernels",
            "steady.seesaw",
            "steady.plain",
            0.97,
        ),
    ):
        compared.append(
            Target(
                name=name,
                title=title,
                ratio=Spread.of_ratios(
                    spread(f"{above}.tokens_per_s"), spread(f"{below}.tokens_per_s")
                ),
                bound=bound,
            )
        )
    return compared
