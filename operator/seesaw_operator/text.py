"""Texts for conditions, Events and logs, and untrusted texts made fit for them. Pure.

What a pod, a webhook or the apiserver says may have any characters and any length. It becomes one
bounded line that cannot pass for another one. Both ends are kept: an apiserver quotes what it
refuses in the middle, and gives its reason at the end.
"""

import re

_COLOURS = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]{0,256}(?:\x07|\x1b\\)|[@-Z\\^_])")
_LINE_BREAKS = re.compile("[ \t]{0,8}[\r\n\x0b\x0c\x85\u2028\u2029]\\s*")
_INVISIBLE = re.compile(" {0,8}[\0-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]+ {0,8}")
_BETWEEN_LINES = " · "
_MAX_CHARACTERS = 1000  # of the 32,768 that the CRD allows
_MAX_READ_CHARACTERS = 4096  # bounds the work on a long text, of which little is kept
_ELLIPSIS = " … "


def one_line(text: str) -> str:
    """Return a text as one line without colours and control characters; of a long text, both
    ends."""
    text = shortened(text, _MAX_READ_CHARACTERS)
    joined = _LINE_BREAKS.sub(_BETWEEN_LINES, _COLOURS.sub("", text).strip())
    return _INVISIBLE.sub(" ", joined).strip()


def sanitized(text: str) -> str:
    """Return an untrusted text as it may stand in a condition or a log."""
    return shortened(one_line(text), _MAX_CHARACTERS)


def shortened(text: str, max_characters: int) -> str:
    """Return a text, or its two ends if it is longer than ``max_characters``."""
    if len(text) <= max_characters:
        return text
    kept = max_characters - len(_ELLIPSIS)
    return text[: kept - kept // 2] + _ELLIPSIS + text[len(text) - kept // 2 :]


def shortened_bytes(text: str, max_bytes: int) -> str:
    """Return a text, or its two ends if it has more than ``max_bytes`` bytes in UTF-8."""
    encoded = text.encode(errors="replace")
    if len(encoded) <= max_bytes:
        return text
    kept = max_bytes - len(_ELLIPSIS.encode())
    begin, end = encoded[: kept - kept // 2], encoded[len(encoded) - kept // 2 :]
    return begin.decode(errors="ignore") + _ELLIPSIS + end.decode(errors="ignore")


def counted(count: int, one: str, many: str) -> str:
    """Return a number with the singular or plural of what it counts."""
    return f"{count} {one if count == 1 else many}"
