"""A request as the router understands it: read once, at the edge, and never looked up again.

``server.requests`` reads it from the body. What waits in the queue, and whoever chooses a worker,
knows no JSON and no HTTP. Whatever else shall decide when a request runs, or where, becomes a
field here and is read there: a tenant, say, or hashes of the prompt's leading blocks.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedRequest:
    """What a request says that may decide when it runs, and where.

    tokens: an estimate of the prompt's length. Only the worker knows it exactly.
    model: the name that the client gives; None if it gives none or the body was not read. It may
        be the name of a LoRA adapter, which only the worker can tell from a model.
    priority: as in vLLM, where a lower one is served first.
    stream: whether the client wants the answer token by token.
    previous_response_id: the stored response that it continues. Only one worker keeps that.
    """

    tokens: int
    model: str | None = None
    priority: int = 0
    stream: bool = False
    previous_response_id: str | None = None
