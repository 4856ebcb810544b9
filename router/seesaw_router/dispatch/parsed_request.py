"""A request as the router understands it: parsed once, at the edge.

``server.requests`` parses it; the queue and the choice of a worker know no JSON and no HTTP. To
let anything else decide when a request runs, or where (a tenant, or hashes of the prompt's leading
blocks), add a field here and fill it there.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedRequest:
    """The parts of a request that may decide when it runs, and where.

    tokens: an estimate of the prompt's length, which only the worker knows exactly.
    model: the name that the client gives; None if it gives none or the body was not parsed. It may
        be the name of a LoRA adapter, which only the worker can tell from a model.
    priority: as in vLLM; lower values are served first.
    stream: whether the client wants the answer token by token.
    previous_response_id: the stored response to continue, which only one worker has.
    """

    tokens: int
    model: str | None = None
    priority: int = 0
    stream: bool = False
    previous_response_id: str | None = None
