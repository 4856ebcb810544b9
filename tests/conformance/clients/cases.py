"""How a client's script tells what it saw: one JSON object on standard output, by case.

Imported by the scripts of this folder, which run in an environment of their own: nothing here, nor
in them, may import Seesaw or vLLM.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

MODEL = "conformance"
TEXT = "Seesaw tips from prefill to decode."
MESSAGES = [{"role": "user", "content": TEXT}]
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 4},
        "age": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA}}
TOOL = {"type": "function", "function": {"name": "greet", "parameters": SCHEMA}}
NAMED = {"type": "function", "function": {"name": "greet"}}
LIMIT: dict[str, Any] = {"max_tokens": 8, "temperature": 0}
LONG: dict[str, Any] = {"max_tokens": 60, "temperature": 0}
TOO_LONG = [{"role": "user", "content": "word " * 3000}]

Case = Callable[[], Any]


def arguments() -> tuple[str, str]:
    """The server's base URL, with ``/v1``, and its key."""
    return sys.argv[1], os.environ["CONFORMANCE_KEY"]


def num_retries() -> int:
    """How often a client may try again: not at all where answers are compared."""
    return 1 if _is_about_retries() else 0


def report(cases: dict[str, Case]) -> None:
    """Run all cases and print what came of them. An exception is its class and its status."""
    chosen = {"chat": cases["chat"]} if _is_about_retries() else cases
    outcomes = {name: _outcome(case) for name, case in chosen.items()}
    print(json.dumps(outcomes, default=lambda value: type(value).__name__))


def _is_about_retries() -> bool:
    return sys.argv[2:] == ["retry"]


def _outcome(case: Case) -> Any:
    try:
        return case()
    except Exception as error:  # noqa: BLE001 - the class is what is compared
        return {
            "raised": type(error).__name__,
            "status": getattr(error, "status_code", None),
        }
