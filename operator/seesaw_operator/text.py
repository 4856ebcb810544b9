"""Words that others wrote, as they can stand in a condition, an Event or a log. Pure.

What a pod, a webhook or the apiserver says may have any characters and any length. It is told in
one line that cannot pass for another one, and both of its ends are kept: an apiserver quotes what
it refuses in the middle, and says why at the end.
"""

import re

_COLOURS = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]{0,256}(?:\x07|\x1b\\)|[@-Z\\^_])")
_BREAKS = re.compile("[ \t]{0,8}[\r\n\x0b\x0c\x85\u2028\u2029]\\s*")
_UNSEEN = re.compile(" {0,8}[\0-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]+ {0,8}")
_BETWEEN = " · "
MOST_TOLD = 1000  # characters, of 32,768 that the CRD allows
_MOST_READ = 4096  # characters: far less is told
_LEFT_OUT = " … "


def one_line(text: str) -> str:
    """The text without colours and controls; its lines one after the other. Of a long one, both
    ends."""
    text = shortened(text, _MOST_READ)
    return _UNSEEN.sub(" ", _BREAKS.sub(_BETWEEN, _COLOURS.sub("", text).strip())).strip()


def quoted(text: str) -> str:
    """What others said, as it can stand in a condition or a log."""
    return shortened(one_line(text), MOST_TOLD)


def shortened(text: str, most: int) -> str:
    """At most so many characters of a text: all, or its two ends."""
    if len(text) <= most:
        return text
    kept = most - len(_LEFT_OUT)
    return text[: kept - kept // 2] + _LEFT_OUT + text[len(text) - kept // 2 :]


def shortened_bytes(text: str, most: int) -> str:
    """At most so many bytes of a text in UTF-8: all, or its two ends."""
    whole = text.encode(errors="replace")
    if len(whole) <= most:
        return text
    kept = most - len(_LEFT_OUT.encode())
    begin, end = whole[: kept - kept // 2], whole[len(whole) - kept // 2 :]
    return begin.decode(errors="ignore") + _LEFT_OUT + end.decode(errors="ignore")
