"""A small real tokenizer, trained on the spot, for synthetic checkpoints.

It exists so that text, chat and structured-output requests work where no model hub can be reached.
The tokenizer is an ordinary byte-level BPE: any text round-trips, and grammar backends can read its
token strings. It knows nothing of models.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

PAD: Final = "<|pad|>"
BOS: Final = "<|bos|>"
EOS: Final = "<|eos|>"
SPECIAL_TOKENS: Final = (PAD, BOS, EOS, "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
"""The first ids of every synthetic vocabulary, in this order."""

PAD_ID: Final = SPECIAL_TOKENS.index(PAD)
BOS_ID: Final = SPECIAL_TOKENS.index(BOS)
EOS_ID: Final = SPECIAL_TOKENS.index(EOS)

MIN_VOCAB_SIZE: Final = len(SPECIAL_TOKENS) + 256 + 64
"""Special tokens, every byte, and a few merges so that words are more than letters."""

CHAT_TEMPLATE: Final = """\
{{- bos_token -}}
{%- if tools -%}
{{- '<|system|>You may call these tools: ' + (tools | tojson) + eos_token -}}
{%- endif -%}
{%- for message in messages -%}
{%- if message.role == 'developer' -%}{%- set role = 'system' -%}
{%- else -%}{%- set role = message.role -%}{%- endif -%}
{%- if role not in ['system', 'user', 'assistant', 'tool'] -%}
{{- raise_exception('unknown role: ' + role) -}}
{%- endif -%}
{{- '<|' + role + '|>' -}}
{%- if message.content is string -%}{{- message.content -}}{%- endif -%}
{%- if message.tool_calls -%}{{- message.tool_calls | tojson -}}{%- endif -%}
{{- eos_token -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""

_ENGLISH: Final = """\
A seesaw is a long plank that rests on one point in the middle: as one end goes up, the other
comes down. The model reads the whole prompt at once, and then it writes the answer one token at a
time. Reading is called prefill and writing is called decode. They want different things from the
same machines. Tensor parallelism cuts each layer into pieces; pipeline parallelism gives every
machine its own layers. When many people ask at the same time, the server puts their questions in
a queue and works in waves. Please write a short story about the sea. What is the capital of
France? Explain how a computer works. Once upon a time there was a little house at the end of the
road, and in it lived an old clock maker. She would say that there is no hurry, because each hour
has exactly as much time in it as the last one. You are a helpful assistant. Answer in one
sentence. Summarize the following text for a busy reader. The quick brown fox jumps over the lazy
dog, and they have been friends for more than a hundred years.
{"name": "value", "type": "object", "items": [1, 2, 3], "result": true, "error": false}
def add(left, right):
    return left + right  # 0 1 2 3 4 5 6 7 8 9
"""
_ENGLISH_REPEATS: Final = 50
_ONSETS: Final = (*"bcdfghjklmnprstvwz", "br", "ch", "cl", "dr", "fl", "gr", "sh", "st", "th", "tr")
_VOWELS: Final = (*"aeiou", "ai", "ea", "ee", "ie", "oa", "ou")
_CODAS: Final = ("", "", "", *"lmnrst", "ck", "nd", "ng", "st")


def train_tokenizer(vocab_size: int) -> Tokenizer:
    """Train a byte-level BPE of exactly ``vocab_size`` tokens.

    The same size always gives the same tokenizer. English comes first, so that ordinary prompts
    take few tokens. Invented words fill the rest of a large vocabulary.

    Requires: ``vocab_size`` is at least :data:`MIN_VOCAB_SIZE`.
    Raises: ValueError if ``vocab_size`` is smaller.
    """
    if vocab_size < MIN_VOCAB_SIZE:
        raise ValueError(f"vocab_size must be at least {MIN_VOCAB_SIZE}, got {vocab_size}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=1,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(vocab_size), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, BOS_ID)]
    )
    assert tokenizer.get_vocab_size() == vocab_size, "the generated corpus is too small"
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path, *, max_length_tokens: int) -> None:
    """Write ``tokenizer``, its settings and the chat template to their standard files."""
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": PAD,
        "additional_special_tokens": [t for t in SPECIAL_TOKENS if t not in (PAD, BOS, EOS)],
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_length_tokens,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def quiet_token_ids(tokenizer: Tokenizer) -> list[int]:
    """Return the ids that a model should not sample by itself.

    They are the special tokens, bytes that are not printable ASCII, and blanks. A random model that
    avoids them writes valid text, stops only at a limit, and writes no endless blanks in JSON.
    """
    blank = {"Ġ", "Ċ"}  # how byte-level tokens spell space and newline
    spoken = {chr(c) for c in range(0x21, 0x7F)} | blank
    vocab: dict[str, int] = tokenizer.get_vocab(with_added_tokens=True)
    return sorted(
        token_id
        for token, token_id in vocab.items()
        if token in SPECIAL_TOKENS or not set(token) <= spoken or set(token) <= blank
    )


def _corpus(vocab_size: int) -> Iterator[str]:
    """Yield English, then about as many invented words as a vocabulary of this size needs."""
    yield from (_ENGLISH for _ in range(_ENGLISH_REPEATS))
    rng = random.Random(0)
    parts = (_ONSETS, _VOWELS, _CODAS)
    syllables = ["".join(rng.choice(part) for part in parts) for _ in range(vocab_size)]
    yield " ".join(first + second for first, second in pairwise(syllables))
