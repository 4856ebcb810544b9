"""Where the router listens."""

import subprocess
import sys

from seesaw_cli.serve.local import free_port

BINDS_THEN_COMES_LATE = """
import sys
from seesaw_flags.listening import bind
from seesaw_router.flags import settings_of
from seesaw_router.server.process import Server
flags = sys.argv[1:]
(first,) = bind(int(flags[-1]), "127.0.0.1")
server = Server(settings_of(flags))
first.listen()
server.run()
"""


def test_a_port_that_another_process_takes_meanwhile_is_refused_by_its_flag() -> None:
    flags = ("--worker=http://a:1", "--host=127.0.0.1", "--port", str(free_port()))
    said = subprocess.run(
        [sys.executable, "-c", BINDS_THEN_COMES_LATE, *flags],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    (told,) = [line for line in said.stderr.splitlines() if "InputError: cannot listen" in line]
    assert f"--port={flags[-1]}: another process has taken it" in told
