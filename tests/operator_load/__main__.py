"""What many resources cost an operator, and its apiserver: ``make bench-operator``.

A real kube-apiserver, a proxy that counts, and one operator process, of this tree and of others
that are given (``ARGS="--against TREE"``). Resources have no replicas, and what
the controllers of workloads would say is said for them, so that all comes to rest.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path

from operator_load.measuring import Costs, measure
from support.cluster_client.kubectl import ROOT
from support.control_plane.apiserver import running_apiserver

PARTS = ("core", "operator", "router", "worker", "cli")


def main() -> int:
    parser = argparse.ArgumentParser(prog="operator_load", description=__doc__)
    parser.add_argument("--resources", type=int, nargs="+", default=[200, 1000])
    parser.add_argument("--against", type=Path, nargs="*", default=[], help="other trees")
    options = parser.parse_args()
    found: dict[str, Costs] = {}
    for count in options.resources:
        for tree in (*options.against, ROOT):
            name = f"{tree.name if tree != ROOT else 'this tree'}, {count}"
            found[name] = _costs(tree, count)
            print(json.dumps({"of": name} | found[name].shown()), file=sys.stderr, flush=True)
    print("\n".join(_table(found)))
    return 0


def _costs(tree: Path, count: int) -> Costs:
    os.environ["PYTHONPATH"] = ":".join(str(tree / part) for part in PARTS)  # of the operator
    with (
        tempfile.TemporaryDirectory(prefix="operator-load-") as folder,
        running_apiserver(Path(folder)) as server,
    ):
        definition = str(tree / "manifests/base/crd.yaml")  # its own
        server.kubectl("apply", "--server-side", "--force-conflicts", "-f", definition)
        return asyncio.run(measure(server, Path(folder), count))


def _table(found: dict[str, Costs]) -> list[str]:
    rows = [["", *found], ["---"] * (len(found) + 1)]
    names = next(iter(found.values())).shown()
    rows += [[name, *(str(costs.shown()[name]) for costs in found.values())] for name in names]
    return ["| " + " | ".join(row) + " |" for row in rows]


if __name__ == "__main__":
    sys.exit(main())
