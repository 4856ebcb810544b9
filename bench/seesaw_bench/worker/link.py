"""The connection between the benchmark and the process trees that it measures.

Each has a socket pair: a line of JSON is a command, another is its result, and the end of the
stream ends the subject. The logs of both sides are separate from it.
"""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from seesaw_core.errors import EngineDiedError
from seesaw_worker.processes.segments import mapped_segments, remove_segments
from seesaw_worker.processes.supervisor import descendants, end_all

_START_S = 600.0
_ANSWER_S = 600.0
_END_S = 20.0
_LOG_TAIL = 3000

Command = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The configuration of a subject. Units: tokens; bytes per rank.

    kind: the name of the subject in the results.
    buffer_gib: the KV buffer of a subject that re-shards.
    ranks: elastic instances, or the tensor-parallel size of plain vLLM, where that may vary.
    """

    kind: str
    model: str
    dtype: str
    max_len: int
    max_seqs: int
    chunk: int
    pool_bytes: int
    buffer_gib: float = 0.0
    ranks: int = 1


class Subject:
    """The benchmark's handle on one process tree that it measures.

    Call order: construct, :meth:`ask` any number of times, :meth:`close`.
    Raises: EngineDiedError if the subject has died, does not answer or reports an error.
    """

    def __init__(self, module: str, job: Job, *, log: Path, environment: dict[str, str]) -> None:
        self.kind = job.kind
        self._log = log
        ours, theirs = socket.socketpair()
        with theirs, log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, str(theirs.fileno()), json.dumps(asdict(job))],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._socket = ours
        self._lines = ours.makefile("rb")
        self._started = False

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, command: str, **arguments: Any) -> Any:
        """Run one command in the subject and wait for its result."""
        self._socket.settimeout(_ANSWER_S if self._started else _START_S)
        try:
            self._socket.sendall(json.dumps({"do": command} | arguments).encode() + b"\n")
            line = self._lines.readline()
        except OSError as error:
            raise self._failure(f"did not answer {command!r} ({error})") from error
        if not line:
            raise self._failure(f"ended during the command {command!r}")
        self._started = True
        answer = json.loads(line)
        if "error" in answer:
            raise EngineDiedError(f"{self.kind}: {command} failed:\n{answer['error']}")
        return answer["value"]

    def close(self) -> None:
        """End the whole tree, at first by closing the connection. Safe to call again."""
        below = []
        with contextlib.suppress(psutil.NoSuchProcess):
            below = psutil.Process(self.pid).children(recursive=True)
        segments = mapped_segments(below)
        self._lines.close()
        self._socket.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        for process in below:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.kill()
        self._process.wait()
        remove_segments(segments)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _failure(self, what: str) -> EngineDiedError:
        tail = self._log.read_text(errors="replace")[-_LOG_TAIL:]
        return EngineDiedError(f"{self.kind} {what}; its log ({self._log}) ends with:\n{tail}")


async def answer(fd: int, commands: Mapping[str, Command]) -> None:
    """Run commands in the subject until the benchmark closes the connection."""
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=fd))
    try:
        next_line = asyncio.ensure_future(reader.readline())
        while line := await next_line:
            next_line = asyncio.ensure_future(reader.readline())
            work = asyncio.ensure_future(_result(line, commands))
            await asyncio.wait((work, next_line), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():  # commands come one at a time, so the connection was closed
                work.cancel()
                return
            writer.write(json.dumps(work.result()).encode() + b"\n")
            await writer.drain()
    finally:
        writer.close()


async def _result(line: bytes, commands: Mapping[str, Command]) -> dict[str, Any]:
    arguments = json.loads(line)
    try:
        return {"value": await commands[arguments.pop("do")](**arguments)}
    except Exception:  # noqa: BLE001 - the benchmark raises it
        return {"error": traceback.format_exc()}


def run_subject(main: Callable[[int, Job], Awaitable[None]]) -> None:
    """Run the main function of a subject's process, and exit without waiting for threads."""
    import uvloop

    code = 0
    try:
        uvloop.run(_awaited(main, int(sys.argv[1]), Job(**json.loads(sys.argv[2]))))
    except BaseException:  # noqa: BLE001 - it is printed and sets the exit code
        traceback.print_exc()
        code = 1
    segments = mapped_segments(descendants())
    end_all(descendants)
    remove_segments(segments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


async def _awaited(main: Callable[[int, Job], Awaitable[None]], fd: int, job: Job) -> None:
    await main(fd, job)
