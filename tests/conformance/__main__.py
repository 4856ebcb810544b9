"""Hold a worker and a router against plain vLLM, request by request.

Starts plain vLLM, a worker that re-shards for every prompt, and a router before it, all on one
small synthetic model; sends the same bytes to each and compares the answers. A difference fails
the run unless tests/conformance/explained.py says why it is right, and so does an explanation that
no difference needs.
"""

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

from conformance import matrix, table
from conformance.check import SUBJECTS, Asked, check
from conformance.client_runs import CLIENTS, OPENAI, Client
from seesaw_worker.synthetic import TINY, write_checkpoint

_EPILOG = """\
examples:
  python -m conformance --list 'chat/*'          the names of those rows
  python -m conformance --row completion/stop    one row on every subject
  python -m conformance --only worker --row 'completion/*' --show
                                                 no router, and print plain vLLM's answers
"""


def main() -> int:
    """Run the matrix. Returns 0 if nothing is unexplained."""
    parser = argparse.ArgumentParser(
        prog="python -m conformance",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only",
        metavar="SUBJECT",
        action="append",
        choices=SUBJECTS,
        help=f"compare this one with plain vLLM, of {', '.join(SUBJECTS)}; may be repeated",
    )
    parser.add_argument(
        "--row", metavar="NAME", action="append", default=[], help="a row's name or pattern"
    )
    parser.add_argument(
        "--client",
        metavar="NAME",
        action="append",
        default=[],
        choices=[c.name for c in CLIENTS],
        help=f"a client library, of {', '.join(c.name for c in CLIENTS)}",
    )
    parser.add_argument("--short", action="store_true", help="the short form that runs in CI")
    parser.add_argument("--list", metavar="PATTERN", help="list rows and end")
    parser.add_argument("--show", action="store_true", help="print plain vLLM's answers")
    parser.add_argument("--output", type=Path, default=Path("conformance-output"))
    options = parser.parse_args()
    if options.list:
        print("\n".join(r.name for r in table.chosen([options.list], is_short=options.short)))
        return 0
    is_everything = not options.row and not options.client
    rows = table.chosen(options.row, is_short=options.short) if options.row or is_everything else ()
    clients: tuple[Client, ...] = tuple(c for c in CLIENTS if c.name in options.client)
    if is_everything:
        clients = (OPENAI,) if options.short else CLIENTS
    if not rows and not clients:
        parser.error(f"no row is called {', '.join(options.row)}; --list '*' lists them")
    if absent := [c.name for c in clients if not c.python.exists()]:
        parser.error(f"no environment for {', '.join(absent)}: `make conformance` makes it")
    began = time.monotonic()
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell lets its background jobs ignore SIGINT
        signal.signal(number, signal.default_int_handler)

    def tell(text: str) -> None:
        print(
            f"conformance [{time.monotonic() - began:6.1f} s] {text}", file=sys.stderr, flush=True
        )

    options.output.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="seesaw-conformance-"))
    write_checkpoint(folder / "model", TINY)
    tell(f"logs: {folder}")
    result, report = check(
        Asked(
            rows=rows,
            clients=clients,
            subjects=options.only or SUBJECTS,
            is_whole=not options.row and not options.client and not options.short,
        ),
        folder=folder,
        tell=tell,
    )
    if options.show:
        _show(result)
    (options.output / "conformance.md").write_text(report.markdown(), errors="backslashreplace")
    (options.output / "conformance.json").write_text(report.json())
    print(report.markdown().encode(errors="backslashreplace").decode())
    tell(report.summary())
    return 0 if report.has_passed else 1


def _show(result: matrix.Result) -> None:
    for row, answers in result.answers.items():
        for answer in answers:
            print(f"{row}: {answer!a}")


if __name__ == "__main__":
    sys.exit(main())
