"""Whether an object is as it was asked for. Pure.

The apiserver fills in defaults, so what is there holds more than what was asked for; and a field
that is not asked for any more is still there. So two things must hold: everything asked for is
there, and the object was last applied from the very same manifest, whose digest it carries.
"""

import hashlib
import json
from typing import Any

from seesaw_operator.api.crd import GROUP
from seesaw_operator.names import Manifest

DIGEST = f"{GROUP}/applied"


def with_digest(manifest: Manifest) -> Manifest:
    """The manifest with an annotation that says what it was made from."""
    text = json.dumps(manifest, sort_keys=True).encode()
    metadata = manifest["metadata"]
    annotations = metadata.get("annotations", {}) | {DIGEST: hashlib.sha256(text).hexdigest()[:16]}
    return manifest | {"metadata": metadata | {"annotations": annotations}}


def is_as_asked_for(there: Manifest, wanted: Manifest) -> bool:
    """Whether applying ``wanted``, which carries its digest, would change nothing of ``there``."""
    return _covers(there, wanted)


def has_digest_of(there: Manifest, wanted: Manifest) -> bool:
    """Whether ``there`` was made from the very same manifest as ``wanted``."""
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
