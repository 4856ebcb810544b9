"""The picture of LoongServe's study: every rate, ours beside the paper's."""

from pathlib import Path

from seesaw_bench.paper.loongserve.report import Outcomes
from seesaw_bench.paper.loongserve.study import ABLATION, DATASETS

_WIDTH = 0.38


def draw_rates(outcomes: Outcomes, path: Path) -> None:
    """A panel for each dataset, a pair of bars for each system."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 4, figsize=(12, 5.2), layout="constrained")
    for axis, row in zip(axes.flat, (*DATASETS, *ABLATION), strict=False):
        places = range(len(row.paper))
        paper = [rate or 0.0 for rate in row.paper.values()]
        ours = [outcomes[row.name, system].per_s or 0.0 for system in row.paper]
        axis.bar([p - _WIDTH / 2 for p in places], paper, _WIDTH, color="#cbd5e1", label="paper")
        axis.bar([p + _WIDTH / 2 for p in places], ours, _WIDTH, color="#2563eb", label="ours")
        names = [system.replace(", ", "\n").replace(" × ", "×\n") for system in row.paper]
        axis.set_xticks(list(places), names, fontsize=7)
        axis.set_title(row.name, fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("requests/s at the limit")
    axes.flat[-1].axis("off")
    axes.flat[0].legend(frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)
