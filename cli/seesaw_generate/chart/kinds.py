"""Kinds of values in the chart: what each may look like, as Kubernetes itself has it.

What the resource knows as well is taken from its own kinds, so that the two never disagree. A
pattern that takes an empty text has a default. Helm shows a pattern as it is, and both complaints
where one of two would do: so patterns are short, a value of two types has one schema, and what
that leaves open is refused in words by a template.
"""

from typing import Annotated, Any

from pydantic import Field, WithJsonSchema
from pydantic.config import JsonDict

from seesaw_flags.values import DIGEST_PATTERN, SHORT_LABEL_PATTERN, SUBDOMAIN_PATTERN
from seesaw_operator.api.kinds import (
    ANY_QUANTITY,
    LABEL_KEY,
    LABEL_VALUE,
    LONGEST_KEY,
    MOST_SECONDS,
)

UNIQUE: JsonDict = {"uniqueItems": True}
_MOST = 2**31 - 1


def _keyed(value: dict[str, Any]) -> WithJsonSchema:
    """A map by label keys. Helm names one that is none, and where it stands."""
    return WithJsonSchema(
        {
            "type": "object",
            "patternProperties": {LABEL_KEY: value},
            "propertyNames": {"maxLength": LONGEST_KEY},
            "additionalProperties": False,
        }
    )


NotEmpty = Annotated[str, Field(min_length=1)]
Labels = Annotated[
    dict[str, str], _keyed({"type": "string", "maxLength": 63, "pattern": LABEL_VALUE})
]
Annotations = Annotated[dict[str, str], _keyed({"type": "string"})]
Amounts = Annotated[
    dict[str, str],
    _keyed({"type": ["string", "number"], "minimum": 0, "pattern": ANY_QUANTITY}),
]
Name = Annotated[str, Field(max_length=253, pattern=rf"^({SUBDOMAIN_PATTERN})?$")]
ServiceName = Annotated[str, Field(max_length=63, pattern=r"^([a-z]([-a-z0-9]*[a-z0-9])?)?$")]
NamePart = Annotated[str, Field(pattern=rf"^({SHORT_LABEL_PATTERN})?$")]
Namespace = Annotated[str, Field(pattern=rf"^{SHORT_LABEL_PATTERN}$")]
ImagePrefix = Annotated[
    str,
    Field(max_length=512, pattern=r"^([A-Za-z0-9][-A-Za-z0-9._]*(:[0-9]+)?(/[-a-z0-9._]+)*/?)?$"),
]
Tag = Annotated[  # seesaw.tag says that a number is to be quoted
    str,
    WithJsonSchema(
        {
            "type": ["string", "number"],
            "pattern": rf"^([A-Za-z0-9_][-A-Za-z0-9_.]{{0,127}}|{DIGEST_PATTERN})?$",
        }
    ),
]
Seconds = Annotated[  # a text with --set-string; seesaw.seconds knows the most of it
    int,
    WithJsonSchema(
        {
            "type": ["integer", "string"],
            "minimum": 1,
            "maximum": MOST_SECONDS,
            "pattern": "^[1-9][0-9]{0,5}$",
        }
    ),
]
Port = Annotated[int, Field(ge=1, le=65535)]
Cidr = Annotated[str, Field(pattern="^[0-9a-fA-F.:]+/[0-9]{1,3}$")]  # the rest: seesaw.cidr
Interval = Annotated[  # of Prometheus
    str,
    Field(
        max_length=32,
        pattern="^([0-9]+y)?([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$",
    ),
]
Count = Annotated[int, Field(ge=0, le=_MOST)]
CountOrPercent = Annotated[
    int,
    WithJsonSchema(
        {
            "type": ["integer", "string"],
            "minimum": 0,
            "maximum": _MOST,
            "pattern": "^(100|[0-9]{1,2})%?$",
        }
    ),
]
