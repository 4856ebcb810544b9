"""The router's log: one form for all that is said, by whatever library."""

import json
import logging

import pytest

from seesaw_cli.local import free_port
from seesaw_router.flags import settings_of
from seesaw_router.server import Server


def test_what_the_server_below_says_is_logged_as_everything_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        server = Server(
            settings_of(["--worker=http://a:1", "--log-format=json", f"--port={free_port()}"])
        )
        server.close()
        logging.getLogger("uvicorn.error").error("it cannot be")
    finally:
        root.handlers[:], root.level = before
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["message"] == "it cannot be"
