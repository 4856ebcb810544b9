"""Names that nothing uses, in the whole tree: vulture, less what is reached in ways it cannot see.

``make lint`` runs it. Each exception stands below with its reason, and one that no longer applies
fails as well. Ruff already finds unused imports and arguments, so those are left to it.
"""

import sys
from fnmatch import fnmatch
from pathlib import Path

from vulture import Vulture  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[2]
FOLDERS = ("core", "operator", "router", "worker", "cli", "bench", "tests")

# Whatever these decorate is registered, and called by what it was registered with.
DECORATORS = ["@app.*", "@early.*", "@invariant", "@pytest.fixture", "@*.exception_handler"]

# In these files class fields are read and written by name, never one by one in Python.
FIELDS = {
    "operator/seesaw_operator/api/*": "pydantic reads users' YAML into them and writes them out",
    "cli/seesaw_generate/chart/*": "helm's templates read them as .Values",
    "core/seesaw_core/*messages.py": "dataclasses.asdict makes JSON of them",
}

# File, why, and the names.
EXPECTED: dict[tuple[str, str], str] = {
    ("tests/*", "pytest looks for these names"): "pytestmark pytest_* Test*",
    ("cli/seesaw_generate/site.py", "MkDocs calls hooks by their names"): "on_*",
    ("core/seesaw_flags/parser.py", "argparse reads it"): "_negative_number_matcher",
    ("operator/seesaw_operator/main.py", "a setting of the Kubernetes client"): (
        "connection_pool_maxsize"
    ),
    ("operator/seesaw_operator/api/container.py", "pydantic calls it"): (
        "_has_types_of_kubernetes"
    ),
    ("operator/seesaw_operator/loop/handlers.py", "settings of kopf"): (
        "trust_env error_backoffs ultimate_exiting_timeout"
    ),
    ("tests/support/echo_mode.py", "vLLM's server calls or reads these"): (
        "input_processor check_admission do_log_stats"
    ),
    ("router/seesaw_router/dispatch/connections.py", "aiohttp calls or reads these"): (
        "_factory update_auto_headers"
    ),
    ("router/seesaw_router/server/*", "asyncio and uvicorn call or read these"): (
        "capture_signals data_received eof_received keep_alive on_response_complete "
        "total_requests disconnected"
    ),
    ("worker/seesaw_worker/server/*", "uvicorn and prometheus_client call or read these"): (
        "timeout_graceful_shutdown force_exit describe"
    ),
    ("worker/seesaw_worker/upstream/openai_server.py", "uvicorn calls it"): "capture_signals",
    ("worker/seesaw_worker/devices/cuda*.py", "fields of CUDA's structs, and what numba reads"): (
        "atexit dstPitch srcPitch Height WidthInBytes srcHost srcMemoryType dstDevice "
        "dstMemoryType srcDevice dstHost __cuda_array_interface__"
    ),
    ("worker/seesaw_worker/modes/*", "vLLM calls these"): (
        "is_scheduler_paused_async notify_kv_transfer_request_rejected get_all_weights"
    ),
    ("worker/seesaw_worker/modes/elastic/*", "vLLM's executor, scheduler and attention"): (
        "forward_includes_kv_cache_update get_impl_cls start_worker_monitor supports_pp "
        "_init_executor register_failure_callback ec_connector get_grammar_bitmask "
        "update_draft_token_ids* get_num_unfinished_requests has_finished_requests "
        "set_pause_state reset_encoder_cache"
    ),
    ("worker/seesaw_worker/modes/resharding/weights/replay.py", "logged and sent as a whole"): (
        "num_copies"
    ),
    ("worker/seesaw_worker/synthetic/tokenizer.py", "tokenizers reads these"): (
        "pre_tokenizer decoder post_processor"
    ),
    ("worker/seesaw_worker/upstream/package_name.py", "importlib.metadata calls it"): (
        "find_distributions"
    ),
    ("tests/conformance/clients/with_litellm.py", "LiteLLM reads it"): "suppress_debug_info",
    ("tests/integration/worker/test_integrity.py", "a script in a string calls it"): "_play",
}


def unused() -> list[tuple[str, int, str, str]]:
    """File, line, name and kind of each name that vulture does not see used."""
    vulture = Vulture(ignore_decorators=DECORATORS)
    vulture.scavenge([str(ROOT / folder) for folder in FOLDERS])
    found = []
    for item in vulture.get_unused_code(min_confidence=60):
        by_ruff = item.typ == "import" or item.confidence == 100
        if not by_ruff:
            path = Path(item.filename).resolve().relative_to(ROOT)
            found.append((path.as_posix(), item.first_lineno, item.name, item.typ))
    return found


def quoted() -> str:
    """All code, to look for names in quotes: vLLM's RPCs, its interfaces, ``module.Class``."""
    files = [f for folder in FOLDERS for f in (ROOT / folder).rglob("*.py")]
    return "\n".join(f.read_text() for f in files if f != Path(__file__).resolve())


def main() -> int:
    code = quoted()
    dead: list[str] = []
    exceptions = {(where, name) for where, names in EXPECTED.items() for name in names.split()}
    needed: set[tuple[tuple[str, str], str]] = set()
    for path, line, name, kind in unused():
        if kind == "variable" and any(fnmatch(path, pattern) for pattern in FIELDS):
            continue
        if any(f"{before}{name}{quote}" in code for quote in "\"'" for before in (quote, ".")):
            continue
        covering = {
            (where, pattern)
            for where, pattern in exceptions
            if fnmatch(path, where[0]) and fnmatch(name, pattern)
        }
        needed |= covering
        if not covering:
            dead.append(f"{path}:{line}: nothing uses the {kind} {name}")
    for (pattern, _), name in sorted(exceptions - needed):
        dead.append(f"tests/dead_code: the exception for {name} in {pattern} is not needed")
    print("\n".join(dead) or "dead code: none")
    return 1 if dead else 0


if __name__ == "__main__":
    sys.exit(main())
