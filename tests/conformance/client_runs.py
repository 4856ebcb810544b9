"""Runs the clients' scripts against each subject, and compares what the clients made of it.

LiteLLM and LangChain do not resolve beside vLLM's pins, so they run in an environment of their own.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from conformance.answers import normalise
from conformance.differences import Difference, differences
from conformance.matrix import PLAIN, Result, Tell
from conformance.rows import API_KEY
from conformance.servers import Subject

HERE: Final = Path(__file__).parent
ENVIRONMENT: Final = HERE.parents[1] / ".venv-clients/bin/python"
"""Where ``make conformance`` installs the clients that need an environment of their own."""

_SCRIPT_S: Final = 300.0


class ClientError(Exception):
    """A script could not run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A client library: its name, and the Python that has it."""

    name: str
    python: Path

    def run(self, url: str, mode: str = "all") -> dict[str, Any]:
        """Outcomes by case: of all cases, or with ``retry`` of one chat that may be tried again.

        Raises: ClientError with the end of what the script printed.
        """
        ran = subprocess.run(
            [str(self.python), "-m", f"conformance.clients.with_{self.name}", url, mode],
            capture_output=True,
            text=True,
            timeout=_SCRIPT_S,
            check=False,
            env={
                "PATH": os.environ["PATH"],
                "HOME": os.environ.get("HOME", "/"),
                "PYTHONPATH": str(HERE.parent),
                "CONFORMANCE_KEY": API_KEY,
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                "LITELLM_TELEMETRY": "False",
            },
        )
        if ran.returncode:
            raise ClientError(f"with_{self.name}.py ended with {ran.returncode}: {ran.stderr}")
        outcomes: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
        return outcomes


OPENAI: Final = Client(name="openai", python=Path(sys.executable))
CLIENTS: Final = (
    OPENAI,
    Client(name="litellm", python=ENVIRONMENT),
    Client(name="langchain", python=ENVIRONMENT),
)


def run_clients(
    clients: Sequence[Client], subjects: Sequence[Subject], result: Result, tell: Tell
) -> None:
    """Run every client against every subject at once; differences are added to ``result``."""
    for client in clients:
        tell(f"client {client.name}")

        def outcomes(subject: Subject, client: Client = client) -> dict[str, Any]:
            host, port = subject.server.address
            return client.run(f"http://{host}:{port}/v1")

        with ThreadPoolExecutor(len(subjects)) as pool:
            ran = list(pool.map(outcomes, subjects))
        by_name = {s.name: normalise(o) for s, o in zip(subjects, ran, strict=True)}
        plain = by_name.pop(PLAIN)
        result.answers[f"client/{client.name}"] = [plain]
        for name, found in by_name.items():
            result.ran |= {(name, f"client/{client.name}/{case}") for case in plain}
            result.found += _differences(client, name, plain, found)


def _differences(
    client: Client, subject: str, plain: dict[str, Any], found: dict[str, Any]
) -> Iterator[Difference]:
    for case, outcome in plain.items():
        row = f"client/{client.name}/{case}"
        for where, one, other in differences(outcome, found[case], "outcome"):
            yield Difference(subject=subject, row=row, where=where, plain=one, found=other)
