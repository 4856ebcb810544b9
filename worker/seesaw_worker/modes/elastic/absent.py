"""What vLLM asks a scheduler about parts that elastic instances do not have."""

from typing import Any

from vllm.v1.core.sched.interface import SchedulerInterface
from vllm.v1.core.sched.output import GrammarOutput, SchedulerOutput


class WithoutParts(SchedulerInterface):
    """A scheduler without connectors, drafts and an encoder."""

    connector = None
    ec_connector = None

    def get_grammar_bitmask(self, scheduler_output: SchedulerOutput) -> GrammarOutput | None:
        """The masks travel with the tasks."""
        return None

    def update_draft_token_ids(self, draft_token_ids: Any) -> None:
        """There are no drafts."""

    def update_draft_token_ids_in_output(self, draft_token_ids: Any, scheduler_output: Any) -> None:
        """There are no drafts."""

    def reset_encoder_cache(self) -> None:
        """There is none."""

    def shutdown(self) -> None:
        """Nothing was opened."""
