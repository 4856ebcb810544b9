"""Objects as the bytes of a server-side apply, which the apiserver reads as YAML.

JSON is YAML but for two things: YAML knows no surrogate pairs, in which JSON may escape what lies
beyond the basic plane, and takes control characters and line breaks only as escapes.
"""

import json
import re
from typing import Any

CONTENT_TYPE = "application/apply-patch+yaml; charset=utf-8"

_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def apply_body(manifest: dict[str, Any]) -> bytes:
    """A manifest as UTF-8 that a YAML reader takes, whatever characters are in it."""
    text = json.dumps(manifest, ensure_ascii=False, separators=(",", ":"))
    whole = _LONE_SURROGATE.sub("\ufffd", text)  # half a character, which no encoding has
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", whole).encode()
