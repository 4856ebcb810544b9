"""Bounds of the figures in files that users give: generous, but finite.

Within them the planner's arithmetic neither overflows nor divides by zero, nor takes long. Also
shows odd values in messages, which stay one short line.
"""

from collections.abc import Iterable
from typing import Any, Final

_SHOWN_CHARACTERS: Final = 60

# Most of a config.json's counts, by a word of the field's name; the first that is found counts.
_MOST: Final = (
    ("vocab", 10_000_000),  # Gemma 3 has 262,208 tokens; hashed vocabularies have a few million
    ("first_k_dense", 2_000),  # a number of layers
    ("position", 1_000_000_000),  # Llama 4 Scout has 10 million positions
    ("seq", 1_000_000_000),  # the same under another name
    ("expert", 10_000_000),  # widths of experts as well; see ``intermediate``
    ("moe", 10_000_000),
    ("intermediate", 10_000_000),  # Grok and Falcon 180B have below 100,000
    ("head_dim", 100_000),  # known models have at most 512
    ("layer", 2_000),  # ten times the 126 of Llama 405B; each layer's matrices are walked through
)
_USUAL: Final = 10_000_000  # BLOOM's hidden size is 14,336; GPT-3 has 96 heads


def most(names: Iterable[str], *, default: int = _USUAL) -> int:
    """Return the bound of a count by the first of its field's names, which is the usual one."""
    first = next(iter(names), "")
    return next((bound for word, bound in _MOST if word in first), default)


def shown(value: Any) -> str:
    """Return a value for a message, in ASCII and cut to a bounded length."""
    try:
        text = ascii(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, or deep nesting
        text = f"a very large {type(value).__name__}"
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}..."
