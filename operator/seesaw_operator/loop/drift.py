"""Whether an object matches its manifest. Pure.

The apiserver adds defaults, so an object has more fields than its manifest; and a field that has
been removed from the manifest is still in the object. So two things must hold: the object has
everything in the manifest, and it was last applied from that manifest, whose digest it carries.
"""

import hashlib
import json
from typing import Any

from seesaw_operator.api.crd import GROUP
from seesaw_operator.names import Manifest

DIGEST = f"{GROUP}/applied"


def with_digest(manifest: Manifest) -> Manifest:
    """Return the manifest with its own digest as an annotation."""
    text = json.dumps(manifest, sort_keys=True).encode()
    metadata = manifest["metadata"]
    annotations = metadata.get("annotations", {}) | {DIGEST: hashlib.sha256(text).hexdigest()[:16]}
    return manifest | {"metadata": metadata | {"annotations": annotations}}


def is_as_asked_for(there: Manifest, wanted: Manifest) -> bool:
    """Whether applying ``wanted``, which carries its digest, would change nothing in ``there``."""
    return _covers(there, wanted)


def has_digest_of(there: Manifest, wanted: Manifest) -> bool:
    """Whether ``there`` was applied from the same manifest as ``wanted``."""
    found = there["metadata"].get("annotations") or {}
    return bool(found.get(DIGEST) == wanted["metadata"]["annotations"][DIGEST])


def _covers(there: Any, wanted: Any) -> bool:
    """Whether ``there`` has everything that ``wanted`` has. Lists must be equally long."""
    if isinstance(wanted, dict):
        return isinstance(there, dict) and all(
            _covers(there.get(key), value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(there, list)
            and len(there) == len(wanted)
            and all(_covers(*pair) for pair in zip(there, wanted, strict=True))
        )
    return bool(there == wanted)
