"""From sampled tokens to vLLM's outputs: stop conditions, log-probabilities, grammars."""

from collections import defaultdict
from collections.abc import Collection, Mapping

import torch
from vllm.v1.core.sched.utils import check_stop
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs
from vllm.v1.outputs import LogprobsLists, LogprobsTensors
from vllm.v1.request import Request, RequestStatus
from vllm.v1.structured_output import StructuredOutputManager

from seesaw_core.errors import IntegrityError
from seesaw_worker.modes.elastic.tasks import PromptLogprobs, TaskResult


class Answers:
    """Collects what the clients are to hear, until :meth:`take`."""

    def __init__(self, grammars: StructuredOutputManager, max_model_len: int) -> None:
        self._grammars, self._max_model_len = grammars, max_model_len
        self._outputs: dict[int, list[EngineCoreOutput]] = defaultdict(list)

    def take(self) -> dict[int, EngineCoreOutputs]:
        """Return the outputs so far, by client."""
        outputs = {client: EngineCoreOutputs(outputs=o) for client, o in self._outputs.items()}
        self._outputs.clear()
        return outputs

    def answer(
        self,
        keys: Collection[str],
        results: Mapping[int, TaskResult],
        requests: Mapping[str, Request],
    ) -> list[str]:
        """Give each request of an iteration its token; return those that have finished.

        Requests that are gone are passed. Raises: IntegrityError if a token is missing.
        """
        tokens = {
            key: (token, result.logprobs.slice_request(row, 1) if result.logprobs else None)
            for result in results.values()
            for row, (key, token) in enumerate(zip(result.keys, result.token_ids, strict=True))
        }
        finished = []
        for key in keys:
            if key not in tokens:
                raise IntegrityError(f"no instance has sampled a token for request {key!r}")
            if (request := requests.get(key)) is None:
                continue
            parts = [r.prompt_logprobs[key] for r in results.values() if key in r.prompt_logprobs]
            if self._answer(request, *tokens[key], parts):
                finished.append(key)
        return finished

    def refuse(self, request: Request) -> None:
        """Tell the client of a request that has ended without a token."""
        self._outputs[request.client_index].append(
            EngineCoreOutput(
                request_id=request.request_id,
                new_token_ids=[],
                finish_reason=request.get_finished_reason(),
                events=request.take_events(),
                trace_headers=request.trace_headers,
            )
        )

    def _answer(
        self,
        request: Request,
        token_id: int,
        logprobs: LogprobsLists | None,
        prompt_logprobs: list[PromptLogprobs],
    ) -> bool:
        """Return whether the request has finished."""
        request.append_output_token_ids(token_id)
        is_finished: bool = check_stop(request, self._max_model_len)
        if not self._grammars.accept_tokens(request, [token_id]):
            request.status = RequestStatus.FINISHED_ERROR
            is_finished = True
        params = request.sampling_params
        assert params is not None
        stats = request.take_prefill_stats()
        if stats is not None:
            stats.finalize(0)
        self._outputs[request.client_index].append(
            EngineCoreOutput(
                request_id=request.request_id,
                new_token_ids=[token_id],
                new_logprobs=logprobs if params.num_logprobs is not None else None,
                new_prompt_logprobs_tensors=_whole(request, prompt_logprobs),
                finish_reason=request.get_finished_reason() if is_finished else None,
                stop_reason=request.stop_reason,
                events=request.take_events(),
                prefill_stats=stats,
                trace_headers=request.trace_headers,
            )
        )
        return is_finished


def _whole(request: Request, parts: list[PromptLogprobs]) -> LogprobsTensors | None:
    """Return the log-probabilities of all prompt tokens, of which each stripe has some."""
    params = request.sampling_params
    if params is None or params.prompt_logprobs is None or request.num_output_tokens > 1:
        return None
    width = parts[0].lists.logprobs.shape[1] if parts else 1
    whole = LogprobsTensors.empty_cpu(request.num_prompt_tokens - 1, width)
    for part in parts:
        at = slice(part.first, None, part.step)
        whole.logprob_token_ids[at] = torch.from_numpy(part.lists.logprob_token_ids)
        whole.logprobs[at] = torch.from_numpy(part.lists.logprobs)
        whole.selected_token_ranks[at] = torch.from_numpy(part.lists.sampled_token_ranks)
    return whole
