"""Whether clients try again what the router refuses.

The router's own bytes are taken from a router whose worker cannot be reached, and are played back
to each client before an answer of plain vLLM's: a client that understands them gets that answer.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from conformance.client_runs import Client
from conformance.differences import Difference
from conformance.rows import MODEL, Request, post
from conformance.servers import Server
from conformance.tables.completions import MESSAGES
from seesaw_cli.serve.local import free_port

CHAT: Final = post("/v1/chat/completions", {"model": MODEL, "messages": MESSAGES, "max_tokens": 4})
_TIMEOUT_S: Final = 30.0
_PARK_S: Final = 0.5


def retried(clients: tuple[Client, ...], plain: Server, folder: Path) -> Iterator[Difference]:
    """Differences of clients that give up at a refusal, or do not get to the answer after it."""
    answer = _take(plain.address, CHAT)
    for status, refusal in _refusals(folder).items():
        if not refusal.startswith(b"HTTP/1.1 %d " % status):
            shown = refusal.partition(b"\r\n")[0].decode(errors="replace")
            yield _difference("router", f"refusal/{status}", str(status), shown)
            continue
        for client in clients:
            with _playing([refusal, answer]) as (port, played):
                outcome = client.run(f"http://127.0.0.1:{port}/v1", "retry")["chat"]
            if len(played) != 2 or not isinstance(outcome, str):
                found = f"{len(played)} requests, {outcome}"
                name = f"refusal/{status}/{client.name}"
                yield _difference("router", name, "2 requests, the answer", found)


def _difference(subject: str, row: str, wanted: str, found: str) -> Difference:
    return Difference(subject=subject, row=row, where="retry", plain=wanted, found=found)


def _refusals(folder: Path) -> dict[int, bytes]:
    """What a router says whose queue is full, and one that has no worker."""
    nobody = f"--worker=http://127.0.0.1:{free_port()}"
    arguments = ["seesaw_cli.main", "router", nobody, "--max-queued=1"]
    router = Server(arguments, folder / "router-alone.log", probe="/health")
    router.launch()
    try:
        router.wait()
        with socket.create_connection(router.address) as parked:
            parked.sendall(CHAT.encode())
            time.sleep(_PARK_S)
            full = _take(router.address, CHAT)
        return {429: full, 503: _take(router.address, Request(path="/v1/models"))}
    finally:
        router.stop()


def _take(address: tuple[str, int], request: Request) -> bytes:
    """The raw bytes of one answer, read until its end or until nothing more comes."""
    with socket.create_connection(address, timeout=_TIMEOUT_S) as connection:
        closing = request.encode().replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
        connection.sendall(closing)
        parts: list[bytes] = []
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            while part := connection.recv(1 << 16):
                parts.append(part)
    return b"".join(parts)


@contextlib.contextmanager
def _playing(answers: list[bytes]) -> Iterator[tuple[int, list[bytes]]]:
    """A server that plays back one answer a connection. Yields its port and what it was asked."""
    asked: list[bytes] = []

    def play(listener: socket.socket) -> None:
        for answer in answers:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(_TIMEOUT_S)
                asked.append(_whole_request(connection))
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(_TIMEOUT_S)
        thread = threading.Thread(target=play, args=(listener,), daemon=True)
        thread.start()
        yield int(listener.getsockname()[1]), asked
    thread.join(_TIMEOUT_S)


def _whole_request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data and (part := connection.recv(1 << 16)):
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    left = int(lengths[0].partition(b":")[2]) - len(body) if lengths else 0
    while left > 0 and (part := connection.recv(1 << 16)):
        data, left = data + part, left - len(part)
    return data
