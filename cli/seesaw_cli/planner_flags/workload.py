"""The requests of a plan or a simulation: drawn around mean lengths, or read from a trace."""

import argparse

from seesaw_cli.planner_flags.trace_files import read_trace_file
from seesaw_core.errors import InputError
from seesaw_core.planner.models import Model
from seesaw_core.planner.workloads import Request
from seesaw_sim.draws import Lengths, draw_requests
from seesaw_sim.traces import Trace

# A chat turn with some context and an answer of a few paragraphs; enough requests for a simulation
# to reach its steady state.
DEFAULTS = {"prompt_tokens": 1000.0, "output_tokens": 250.0, "spread": 0.5, "requests": 2000}


def read_trace_flag(options: argparse.Namespace) -> Trace | None:
    """Read the file of ``--trace``, if the flag is given. Raises: InputError."""
    if options.trace is None:
        return None
    for flag, default in DEFAULTS.items():
        if getattr(options, flag) != default:
            raise InputError(
                f"--trace and --{flag.replace('_', '-')} both set the requests; give one of them"
            )
    return read_trace_file(options.trace, time_unit=options.trace_time_unit)


def requests_of(
    options: argparse.Namespace, model: Model, trace: Trace | None
) -> tuple[list[Request], list[str]]:
    """Return the requests and notes on them. Raises: InputError if they exceed the model."""
    if trace is not None:
        longest = max(r.prompt_tokens + r.output_tokens for r in trace.requests)
        if longest > model.max_tokens:
            raise InputError(
                f"--trace={options.trace}: the longest request has {longest:,} tokens, more than "
                f"the model's {model.max_tokens:,}; leave such requests out"
            )
        return trace.requests, list(trace.notes)
    wanted = options.prompt_tokens + options.output_tokens
    if wanted > model.max_tokens:
        raise InputError(
            f"--prompt-tokens={options.prompt_tokens:g} and --output-tokens="
            f"{options.output_tokens:g} are more than the model's {model.max_tokens:,} tokens "
            "(--max-model-len sets another limit)"
        )

    def draw(longest: int | None) -> list[Request]:
        return draw_requests(
            options.requests,
            prompts=Lengths.around(options.prompt_tokens, spread=options.spread),
            outputs=Lengths.around(options.output_tokens, spread=options.spread),
            seed=options.seed,
            longest=longest,
        )

    requests = draw(model.max_tokens)
    cut = sum(one != other for one, other in zip(requests, draw(None), strict=True))
    if not cut:
        return requests, []
    note = (
        f"{cut:,} of {len(requests):,} requests were cut to the model's {model.max_tokens:,} "
        "tokens; a smaller --spread draws fewer that long"
    )
    return requests, [note]
