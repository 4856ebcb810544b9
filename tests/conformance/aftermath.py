"""What must hold of a server before and after the rows: its routes are those of the table, and no
request, slot or block is left behind."""

import json
import time
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Final

from conformance.differences import Difference
from conformance.servers import Server, Subject
from conformance.tables.routes import ROUTES
from seesaw_core.reading import read_state
from support.worker_states import resharding

_IDLE_WITHIN_S: Final = 15.0
_GAUGES: Final = ("vllm:num_requests_running", "vllm:num_requests_waiting{")


def unknown_routes(plain: Server) -> Iterator[Difference]:
    """Routes that plain vLLM has and the table has not, or the reverse."""
    found = set(json.loads(_get(plain, "/openapi.json"))["paths"])
    for path in sorted(found ^ set(ROUTES)):
        here = "in vLLM" if path in found else "not in vLLM"
        table = "in the table" if path in ROUTES else "not in the table"
        yield Difference(subject="plain", row="routes", where=path, plain=here, found=table)


def left_behind(subjects: Sequence[Subject]) -> Iterator[Difference]:
    """What engines still hold although no client is there any more."""
    for engine in {s.engine.port: s.engine for s in subjects}.values():
        name = next(s.name for s in subjects if s.engine is engine)
        deadline = time.monotonic() + _IDLE_WITHIN_S
        while (held := _held(engine)) and time.monotonic() < deadline:
            time.sleep(0.2)
        for what, count in held.items():
            yield Difference(
                subject=name, row="afterwards", where=what, plain="0", found=f"{count:g}"
            )


def _held(engine: Server) -> dict[str, float]:
    """What is not back to nothing, by name."""
    held: dict[str, float] = {}
    for line in _get(engine, "/metrics").splitlines():
        if line.startswith(_GAUGES):
            held[line.partition("{")[0]] = float(line.rpartition(" ")[2])
    if engine.is_resharding:
        state = read_state(_get(engine, "/seesaw/state").encode())
        part, held["num_waiting"] = resharding(state), state.num_waiting
        held |= {"num_prefilling": part.num_prefilling, "num_decoding": part.num_decoding}
        assert part.buffer is not None
        held["buffer blocks"] = part.buffer.blocks.capacity - part.buffer.blocks.free
    return {what: count for what, count in held.items() if count}


def _get(server: Server, path: str) -> str:
    host, port = server.address
    with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=30) as response:
        return str(response.read().decode())
