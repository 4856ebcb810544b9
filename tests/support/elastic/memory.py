"""The KV memory of elastic instances as a worker keeps it, with what each slot holds.

An instance hears of what the cache has changed, and of requests that left, with its next step. The
KV of a token depends on all tokens before it, so a slot holds the number of that whole prefix.
"""

from collections.abc import Callable, Iterable, Sequence

from seesaw_core.elastic.cache import CacheChange, Kept
from seesaw_core.elastic.placement import Placement
from seesaw_core.elastic.view import Decode, Migrate, Prefill


class Prefixes:
    """Numbers prefixes: two lists of tokens get one number if they are equal."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[int, int], int] = {}

    def of(self, tokens: Sequence[int]) -> list[int]:
        """Return [tokens] the number of the prefix that ends with each."""
        numbers, last = [], 0
        for token in tokens:
            last = self._numbers.setdefault((last, token), len(self._numbers) + 1)
            numbers.append(last)
        return numbers


class Memory:
    """The slots of one instance, by request or cached context, in the order of their tokens."""

    def __init__(self, num_slots: int) -> None:
        self.num_slots = num_slots
        self.slots: dict[str, list[int]] = {}
        self._news: list[Callable[[], None]] = []

    def hear(self, news: Callable[[], None]) -> None:
        self._news.append(news)

    def begin_step(self) -> None:
        for news in self._news:
            news()
        self._news.clear()

    def take(self, key: str, contents: Iterable[int]) -> None:
        self.slots.setdefault(key, []).extend(contents)
        used = sum(len(slots) for slots in self.slots.values())
        assert used <= self.num_slots, f"{used} slots in use, of {self.num_slots}"

    def cut(self, key: str, num_tokens: int) -> None:
        """Keep the first slots; nothing of a key without any."""
        kept = self.slots.pop(key, [])[:num_tokens]
        if kept:
            self.slots[key] = kept

    def rename(self, key: str, new: str, num_tokens: int) -> None:
        assert len(self.slots.get(key, [])) >= num_tokens
        self.cut(key, num_tokens)
        self.slots[new] = self.slots.pop(key)


class Memories:
    """All instances."""

    def __init__(self, capacity_tokens: Sequence[int]) -> None:
        self.instances = [Memory(num_slots) for num_slots in capacity_tokens]
        self._contexts: dict[str, frozenset[int]] = {}

    def hear(self, changes: Iterable[CacheChange]) -> None:
        """Take in what the cache has changed."""
        for change in changes:
            counts = change.placement.tokens_by_instance()
            if isinstance(change, Kept):
                self._contexts[change.key] = change.placement.holders
                for i, n in counts.items():
                    memory = self.instances[i]
                    memory.hear(
                        lambda m=memory, c=change, n=n: m.rename(c.request, c.key, n)  # type: ignore[misc]
                    )
            else:
                for i in self._contexts[change.key]:
                    self._cut(i, change.key, counts.get(i, 0))

    def release(self, key: str) -> None:
        for i in range(len(self.instances)):
            self._cut(i, key, 0)

    def retract(self, step: Decode, key: str, placement: Placement) -> None:
        """An iteration has failed whose token the master may have kept."""
        i = step.masters[key]
        self._cut(i, key, placement.tokens_by_instance().get(i, 0))

    def prefill(self, step: Prefill, contents: dict[str, list[int]]) -> None:
        """Begin a prefill. contents: [tokens] of each prompt."""
        for i in step.instances:
            memory = self.instances[i]
            memory.begin_step()
            copied = [key for key in step.reused if key not in step.taken_over]
            for key in copied:
                prefix = step.reused[key]
                num_tokens = prefix.tokens_by_instance.get(i, 0)
                if num_tokens:
                    memory.take(key, memory.slots[prefix.source][:num_tokens])
            for key in step.taken_over:
                prefix = step.reused[key]
                num_tokens = prefix.tokens_by_instance.get(i, 0)
                memory.cut(prefix.source, num_tokens)
                if num_tokens:
                    memory.rename(prefix.source, key, num_tokens)
            for key, placement in step.placements.items():
                computed = range(step.num_reused(key), placement.num_tokens)
                own = [p for p in _positions(placement, i) if p in computed]
                if own:
                    memory.take(key, [contents[key][p] for p in own])

    def decode(self, step: Decode, contents: dict[str, list[int]]) -> None:
        """Begin a decode iteration. contents: [tokens] of each request."""
        for i in step.instances:
            self.instances[i].begin_step()
        for key, master in step.masters.items():
            self.instances[master].take(key, contents[key][-1:])

    def migrate(self, step: Migrate) -> None:
        source, target = (self.instances[i] for i in step.instances)
        source.begin_step()
        target.begin_step()
        for key in step.keys:
            target.take(key, source.slots.pop(key))

    def lose(self, instance: int) -> None:
        self.instances[instance] = Memory(0)

    def check(self, key: str, placement: Placement, contents: Sequence[int]) -> None:
        """Requires: no news is outstanding of the key."""
        for i in placement.holders:
            expected = [contents[p] for p in _positions(placement, i)]
            assert sorted(self.instances[i].slots[key]) == sorted(expected)

    def _cut(self, instance: int, key: str, num_tokens: int) -> None:
        memory = self.instances[instance]
        memory.hear(lambda: memory.cut(key, num_tokens))


def _positions(placement: Placement, instance: int) -> list[int]:
    runs = (run for run in placement.runs if run.instance == instance)
    return [position for run in runs for position in range(run.start, run.stop)]
