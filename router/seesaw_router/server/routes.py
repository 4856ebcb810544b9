"""The routes of vLLM that the router forwards; nothing else reaches a worker.

The path that is compared is the path that is sent, byte by byte: nothing is decoded, joined or
normalised, so that no other spelling of a route can pass. A contract test compares the tables with
the routes of the installed vLLM.
"""

import re
from dataclasses import dataclass, replace
from enum import StrEnum

MAX_PATH_BYTES = 512
RESPONSES = "/v1/responses"
_SEGMENT = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9_.~-]{0,255}")


class Kind(StrEnum):
    """How a request gets its worker."""

    PROMPT = "prompt"  # it waits in the queue for a wave
    LIGHT = "light"  # it costs little: any worker, at once
    STORED = "stored"  # it goes to the worker that stores the response it names


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One route of vLLM. In ``template``, ``{}`` stands for one segment, an id."""

    method: str
    template: str
    kind: Kind

    @property
    def methods(self) -> frozenset[str]:
        """The methods that are forwarded: HEAD with GET, and OPTIONS, which browsers send first."""
        more = {"HEAD"} if self.method == "GET" else set()
        return frozenset({self.method, "OPTIONS"} | more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A request's route, and the id at its ``{}``."""

    kind: Kind
    template: str
    id: str = ""


class UnroutableError(Exception):
    """A request that no worker gets. ``allow``: the methods of its path."""

    def __init__(self, status: int, message: str, allow: frozenset[str] = frozenset()) -> None:
        super().__init__(message)
        self.status = status
        self.allow = allow


_PROMPTS = """
/v1/completions /v1/chat/completions /v1/chat/completions/batch /v1/responses /v1/messages
/v1/embeddings /v2/embed /v1/score /score /v1/rerank /v2/rerank /rerank /pooling /classify
/v1/audio/transcriptions /v1/audio/translations /inference/v1/generate /generative_scoring
/v1/systemone /cohere/v2/chat /invocations
"""
_LIGHT_POSTS = """
/tokenize /detokenize /ping /v1/messages/count_tokens /v1/chat/completions/render
/v1/completions/render /v1/messages/render /v1/responses/render /cohere/v2/chat/render
/v1/chat/completions/derender /v1/completions/derender
"""
_LIGHT_GETS = "/v1/models /version /ping"


def _paths(text: str) -> list[str]:
    return text.split()


ROUTES = (
    *(Route(method="POST", template=path, kind=Kind.PROMPT) for path in _paths(_PROMPTS)),
    *(Route(method="POST", template=path, kind=Kind.LIGHT) for path in _paths(_LIGHT_POSTS)),
    *(Route(method="GET", template=path, kind=Kind.LIGHT) for path in _paths(_LIGHT_GETS)),
    Route(method="GET", template="/v1/responses/{}", kind=Kind.STORED),
    Route(method="POST", template="/v1/responses/{}/cancel", kind=Kind.STORED),
)

# The router answers these itself.
OWN = frozenset({"/health", "/ready", "/metrics", "/load", "/seesaw/state"})

_ONE_WORKER = "it concerns one worker; ask that worker itself"
_OPERATIONS = "it operates a worker, and is not for clients"
_WEBSOCKET = "the router does not forward WebSockets; connect to a worker itself"

_OF_ONE_WORKER = """
/tokenizer_info /server_info /kv_event_sources /is_sleeping /is_paused /get_world_size
/weight_info /fault_tolerance/status /is_scaling_elastic_ep /docs /readyz
"""
_FOR_OPERATORS = """
/v1/load_lora_adapter /v1/unload_lora_adapter /start_profile /stop_profile
/reset_prefix_cache /reset_mm_cache /reset_encoder_cache /collective_rpc /sleep
/release_kv_cache_memory /wake_up /pause /resume /abort_requests
/inference/v1/abort_requests /init_weight_transfer_engine
/shutdown_weight_transfer_engine /start_weight_update /start_draft_weight_update
/update_weights /finish_weight_update /update_weight_version /weight_checker
/scale_elastic_ep /fault_tolerance/apply
"""

# vLLM's other routes, and why the router does not forward them.
WITHHELD = {
    "/v1/realtime": _WEBSOCKET,
    **dict.fromkeys(_paths(_OF_ONE_WORKER), _ONE_WORKER),
    **dict.fromkeys(_paths(_FOR_OPERATORS), _OPERATIONS),
}


def match(method: str, path: str) -> Match:
    """Returns the route of a request, by its unchanged path. Raises: UnroutableError."""
    if len(path) > MAX_PATH_BYTES:
        raise UnroutableError(414, f"the path is longer than {MAX_PATH_BYTES} bytes")
    template, name = _template(path)
    matches = _BY_TEMPLATE.get(template)
    if matches is None:
        if path in WITHHELD:
            raise UnroutableError(
                501 if path == "/v1/realtime" else 404, f"{path}: {WITHHELD[path]}"
            )
        raise UnroutableError(
            404, "there is no such path here; vLLM's API routes are forwarded if spelled exactly"
        )
    matched = matches.get(method)
    if matched is None:
        allow = frozenset(matches)
        raise UnroutableError(405, f"{template} takes {', '.join(sorted(allow))}", allow)
    return replace(matched, id=name) if name else matched


def _template(path: str) -> tuple[str, str]:
    """Returns the template that matches a path, and the id in the path."""
    prefix = "/v1/responses/"
    if path in _BY_TEMPLATE or not path.startswith(prefix):
        return path, ""
    name, slash, rest = path.removeprefix(prefix).partition("/")
    return (f"{prefix}{{}}{slash}{rest}", name) if _SEGMENT.fullmatch(name) else (path, "")


def _by_template() -> dict[str, dict[str, Match]]:
    table: dict[str, dict[str, Match]] = {}
    for route in ROUTES:
        for method in route.methods:
            kind = Kind.LIGHT if method == "OPTIONS" else route.kind
            by_method = table.setdefault(route.template, {})
            by_method[method] = Match(kind=kind, template=route.template)
    return table


_BY_TEMPLATE = _by_template()
