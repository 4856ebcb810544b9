"""``seesaw bench simulator``: processor time of a simulation, by the number of requests.

LLaMA2-70B's shape on eight A100-40G a replica, four replicas behind the router's waves, requests
at random at three quarters of what they can do. Prints a table as Markdown.
"""

import time

from seesaw_bench.paper.cells import MODELS, device
from seesaw_cli.planner_flags.flags import table
from seesaw_core.layouts import Layout, LayoutPair
from seesaw_core.planner.workloads import Request
from seesaw_core.resharding.policy import PhasePolicy, Reshard
from seesaw_flags.parser import CommandParser
from seesaw_sim.draws import Lengths, arriving, draw_requests
from seesaw_sim.simulate import Scenario, simulate

_COUNTS = (2_500, 5_000, 10_000, 20_000)
_PER_S = 12.0


def run(arguments: list[str]) -> int:
    """Simulate ever more requests and print what that took. Returns 0."""
    parser().parse_args(arguments)
    rows: list[tuple[str, ...]] = []
    decode = Layout(tensor=4, pipeline=2)
    for pair in (LayoutPair(prefill=Layout(pipeline=8), decode=decode), LayoutPair.static(decode)):
        scenario = Scenario(
            model=MODELS["70B"],
            device=device("A100 PCIe"),
            prefill=pair.prefill,
            decode=pair.decode,
            num_replicas=4,
            policy=PhasePolicy(reshard=Reshard.NEVER if pair.is_static else Reshard.ALWAYS),
        )
        for count in _COUNTS:
            requests = _requests(count)
            began = time.process_time()
            report = simulate(scenario, requests)
            seconds = time.process_time() - began
            rows.append(
                (
                    str(pair),
                    f"{count:,}",
                    f"{seconds:.2f}",
                    f"{1e3 * seconds / count:.2f}",
                    f"{report.duration_s:,.0f}",
                )
            )
    head = ("system", "requests", "CPU s", "ms a request", "simulated s")
    print(table(head, rows))
    return 0


def parser() -> CommandParser:
    """The command's flags."""
    return CommandParser(prog="seesaw bench simulator", description=__doc__)


def _requests(count: int) -> list[Request]:
    drawn = draw_requests(
        count, prompts=Lengths.around(800, spread=0.7), outputs=Lengths.around(200, spread=0.7)
    )
    return arriving(drawn, per_s=_PER_S)
