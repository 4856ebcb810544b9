"""What a worker says of where it listens, and what it answers before it can serve."""

import socket
from argparse import Namespace
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from seesaw_core.errors import InputError
from seesaw_core.layouts import Layout
from seesaw_worker.modes.static.mode import StaticMode
from seesaw_worker.server.commandline import address, listen, parse
from seesaw_worker.server.http import early_app
from seesaw_worker.server.telemetry import Telemetry


@pytest.mark.parametrize(
    ("family", "host", "certificate", "says"),
    [
        (socket.AF_INET, "", None, "http://0.0.0.0:{} (every IPv4 interface)"),
        (socket.AF_INET, "127.0.0.1", "cert.pem", "https://127.0.0.1:{}"),
        (socket.AF_INET6, "::", None, "http://[::]:{} (every interface)"),
        (socket.AF_INET6, "::1", None, "http://[::1]:{}"),
    ],
)
def test_the_address_is_the_sockets_own(
    family: int, host: str, certificate: str | None, says: str
) -> None:
    with socket.socket(family) as listener:
        listener.bind((host, 0))
        port = listener.getsockname()[1]
        told = address(listener, Namespace(ssl_certfile=certificate, uds=None))
    assert told == says.format(port)


def test_a_socket_that_an_ended_worker_left_is_no_obstacle_and_any_other_file_is(
    tmp_path: Path,
) -> None:
    place = tmp_path / "worker.sock"
    args = parse(["some/model", f"--uds={place}"])
    listen(args).close()
    assert place.is_socket()
    with listen(args) as listener:
        listener.listen()
        with pytest.raises(InputError, match="--uds"):
            listen(args)
    place.unlink()
    place.write_text("somebody's")
    with pytest.raises(InputError, match="--uds"):
        listen(args)
    assert place.read_text() == "somebody's"


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/health", "/v1/chat/completions", "/metrics", "/docs", "/"])
async def test_while_loading_every_route_asks_to_come_again(method: str, path: str) -> None:
    app = early_app(Telemetry(StaticMode(Namespace(), Layout()), CollectorRegistry()))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://worker") as client:
        answer = await client.request(method, path)
        state = await client.get("/seesaw/state")
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert state.status_code == 200
