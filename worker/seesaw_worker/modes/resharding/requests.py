"""Engine-core requests: which ones the buffer can carry, and what each engine receives."""

import copy
import time
from array import array
from collections.abc import Iterable

import msgspec
from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, EngineCoreRequest, FinishReason
from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder

from seesaw_core.resharding.events import Ending
from seesaw_worker.modes.resharding.kv.transfer import BufferTicket

_TRANSFER = "kv_transfer_params"
_ENCODER = MsgpackEncoder()
_DECODER = MsgpackDecoder(EngineCoreRequest)
_ENDINGS = {FinishReason.ABORT: Ending.ABORTED, FinishReason.ERROR: Ending.REJECTED}

Identity = tuple[bytes, str | None]
"""The token ids of a prompt and its cache salt, as values that hash and compare fast."""


def num_prompt_tokens(request: EngineCoreRequest) -> int:
    return len(request.prompt_token_ids or ())


def carried_tokens(request: EngineCoreRequest) -> int | None:
    """Return how many of a prompt's tokens go through the buffer; None if it must go in place.

    The decode engine computes the last token itself, since sampling needs its output, so the
    buffer carries nothing of a prompt of one token. Requests that the buffer cannot carry go in
    place: pooling, prompt log-probabilities, embeddings, media, adapters, streamed input.
    """
    params = request.sampling_params
    if (
        params is None
        or request.prompt_token_ids is None
        or params.prompt_logprobs is not None
        or params.skip_reading_prefix_cache
        or request.prompt_embeds is not None
        or request.mm_features
        or request.lora_request is not None
        or request.resumable
    ):
        return None
    return len(request.prompt_token_ids) - 1


def check_transport(request: EngineCoreRequest) -> None:
    """Encode and decode a request as on its way to an engine core.

    vLLM would encode a request only when it is sent, which for one that waits is after its caller
    has returned, and a request that cannot be decoded ends the engine's input thread. Tensors are
    left out, since some ways of sending them work only once.
    Raises: the errors of encoding and decoding.
    """
    plain = msgspec.structs.replace(request, mm_features=None, prompt_embeds=None)
    _DECODER.decode(_ENCODER.encode(plain))


def prompt_identity(request: EngineCoreRequest) -> Identity:
    """Return an identity that is equal for requests with equal KV."""
    return array("q", request.prompt_token_ids or ()).tobytes(), request.cache_salt


def for_prefill(
    request: EngineCoreRequest, ticket: BufferTicket, priority: int = 0
) -> EngineCoreRequest:
    """Return a request that makes the prefill engine compute and save a prompt's KV.

    The token that it samples is discarded: all sampling happens in the decode engine.
    """
    assert request.prompt_token_ids is not None
    params = SamplingParams(
        temperature=0.0,
        max_tokens=1,
        ignore_eos=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        extra_args={_TRANSFER: ticket.to_params()},
    )
    return EngineCoreRequest(
        request_id=ticket.key,
        prompt_token_ids=request.prompt_token_ids[: ticket.num_tokens],
        mm_features=None,
        sampling_params=params,
        pooling_params=None,
        arrival_time=request.arrival_time,
        lora_request=None,
        cache_salt=request.cache_salt,
        data_parallel_rank=None,
        priority=priority,
    )


def for_warm_up(key: str, num_tokens: int) -> EngineCoreRequest:
    """Return a prompt of small token ids that shares no prefix with that of another key."""
    first = int(key.rpartition("-")[2]) % 64
    return EngineCoreRequest(
        request_id=key,
        prompt_token_ids=[first] + [i % 64 for i in range(num_tokens - 1)],
        mm_features=None,
        sampling_params=SamplingParams(
            temperature=0.0,
            max_tokens=2,
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        ),
        pooling_params=None,
        arrival_time=time.time(),
        lora_request=None,
        cache_salt=None,
        data_parallel_rank=None,
    )


def for_decode(request: EngineCoreRequest, ticket: BufferTicket | None) -> EngineCoreRequest:
    """Return the request as the decode engine receives it, with a ticket if it has one.

    A client's own transfer parameters are dropped, since they could name another request's blocks.
    """
    params = request.sampling_params
    if params is None:
        return request
    extra = {k: v for k, v in (params.extra_args or {}).items() if k != _TRANSFER}
    if ticket is not None:
        extra[_TRANSFER] = ticket.to_params()
    elif not params.extra_args:
        return request
    params = copy.copy(params)
    params.extra_args = extra or None
    return msgspec.structs.replace(request, sampling_params=params)


def failed(request_ids: Iterable[str]) -> EngineCoreOutputs:
    """Return the outputs with which an engine core ends requests in an error."""
    return EngineCoreOutputs(
        outputs=[EngineCoreOutput(r, [], finish_reason=FinishReason.ERROR) for r in request_ids]
    )


def ending(output: EngineCoreOutput) -> Ending:
    """Return how a request ends. Requires: ``output`` is its last."""
    return _ENDINGS.get(output.finish_reason, Ending.FINISHED)


def is_prefilled(output: EngineCoreOutput) -> bool:
    """Return whether all KV of a finished prefill is in the buffer."""
    return output.finish_reason is FinishReason.LENGTH


def num_cached_tokens(output: EngineCoreOutput) -> int:
    """Return how many tokens of a finished prefill came from the engine's prefix cache."""
    return output.prefill_stats.num_cached_tokens if output.prefill_stats else 0
