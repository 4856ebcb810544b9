"""A request as the router understands it: read once, at the edge, and never looked up again.

``server.requests`` reads it from headers and body. What waits in the queue, and whoever chooses
a worker, knows no JSON and no HTTP.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedRequest:
    """What a request says that may decide when it runs, and where.

    tokens: an estimate of the prompt's length. Only the worker knows it exactly.
    model: the name that the client asks for, which may be that of a LoRA adapter; None where
        the request names none or was not read.
    adapter: the LoRA adapter; None while the router cannot tell adapters from models.
    tenant: whose request it is; None while the router knows no tenants.
    prefix_hashes: of the prompt's leading blocks, shortest prefix first; none are computed yet.
    priority: as vLLM has it: a lower one is served first.
    stream: whether the client wants the answer token by token.
    previous_response_id: the stored response that it continues. Only one worker keeps that.
    """

    tokens: int
    model: str | None = None
    adapter: str | None = None
    tenant: str | None = None
    prefix_hashes: tuple[int, ...] = ()
    priority: int = 0
    stream: bool = False
    previous_response_id: str | None = None
