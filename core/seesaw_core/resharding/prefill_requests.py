"""Prompts inside the prefill engine, and their room in the buffer.

A prompt is inside from its admission until each of its readers has been passed on or is gone. Its
blocks are freed only once the prefill engine can no longer write them.
"""

from collections.abc import Iterator

from seesaw_core.resharding.ledger import Ledger
from seesaw_core.resharding.waiting import Prompt


class InPrefill:
    """Prompts inside the prefill engine."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._prompts: dict[str, Prompt] = {}
        self._by_reader: dict[str, Prompt] = {}
        self._may_write = False
        self._orphans: set[str] = set()

    def __len__(self) -> int:
        return len(self._prompts)

    def __iter__(self) -> Iterator[Prompt]:
        return iter(list(self._prompts.values()))

    def find(self, key: str) -> Prompt | None:
        return self._prompts.get(key)

    def enter(self, prompt: Prompt) -> None:
        """Add a prompt and reserve its blocks.

        Raises: BufferFullError; the prompt has been added by then.
        """
        self._prompts[prompt.key] = prompt
        self._by_reader.update(dict.fromkeys(prompt.readers, prompt))
        self._ledger.reserve(prompt.key, prompt.num_tokens, readers=len(prompt.readers))
        self._ledger.pin(prompt.key)

    def end(self, key: str) -> None:
        """Record that the engine is done with a prompt and writes its blocks no more."""
        self._ledger.unpin(key)

    def leave(self, request_id: str) -> Prompt | None:
        """Remove a reader and release its entry. The last reader removes the prompt."""
        prompt = self._by_reader.get(request_id)
        if prompt is None:
            return None
        if prompt.key in self._ledger:
            self._ledger.release(prompt.key)
        self.hand_on(request_id)
        return prompt

    def hand_on(self, request_id: str) -> None:
        """Remove a reader whose entry someone else will release."""
        prompt = self._by_reader.pop(request_id, None)
        if prompt is None:
            return
        prompt.leave(request_id)
        if not prompt.readers:
            self._prompts.pop(prompt.key, None)
            self._orphans.add(prompt.key)
            if not self._may_write:
                self._free_orphans()

    def begin(self) -> None:
        """Record that the engine may write from now on."""
        self._may_write = True

    def stop(self) -> None:
        """Record that the engine's pause is complete, so that it writes no more."""
        self._may_write = False
        self._free_orphans()

    def _free_orphans(self) -> None:
        orphans, self._orphans = self._orphans, set()
        for key in orphans:
            if key in self._ledger:
                self._ledger.unpin(key)
