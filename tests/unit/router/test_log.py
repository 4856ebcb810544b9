"""The router's log: one form for all that is said, by whatever library."""

import json
import subprocess
import sys

from seesaw_cli.serve.local import free_port

SAYS = """
import logging, sys
from seesaw_router.flags import settings_of
from seesaw_router.server.process import Server
Server(settings_of(sys.argv[1:]))
logging.getLogger("uvicorn.error").error("it cannot be")
"""


def test_what_the_server_below_says_is_logged_as_everything_else() -> None:
    """In a process of its own: whoever starts uvicorn in this one sets its loggers up."""
    flags = ("--worker=http://a:1", "--log-format=json", f"--port={free_port()}")
    said = subprocess.run(
        [sys.executable, "-c", SAYS, *flags], capture_output=True, check=True, text=True, timeout=60
    )
    (line,) = said.stderr.splitlines()
    assert json.loads(line)["message"] == "it cannot be"
