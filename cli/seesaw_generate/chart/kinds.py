"""Kinds of values in the chart: what each may look like, as Kubernetes itself has it.

What the resource knows as well is taken from its own kinds, so that the two never disagree. Of a
pattern helm would tell nothing but itself: the schema has none, and the chart's templates refuse in
words what has another form than it must (files/forms.json).
"""

from typing import Annotated, Any

from pydantic import Field, WithJsonSchema
from pydantic.config import JsonDict

from seesaw_flags.values import DIGEST_PATTERN, SHORT_LABEL_PATTERN, SUBDOMAIN_PATTERN
from seesaw_operator.api.field_types import (
    ANY_QUANTITY_FORM,
    LABEL_KEY_FORM,
    LABEL_VALUE_FORM,
    LONGEST_KEY,
    MOST_SECONDS,
)
from seesaw_operator.api.forms import Form

UNIQUE: JsonDict = {"uniqueItems": True}
_MOST = 2**31 - 1


def _of(form: Form) -> dict[str, Any]:
    """The form of a value whose schema is written out."""
    return {"pattern": form.pattern, "words": form.words}


def _keyed(value: dict[str, Any]) -> WithJsonSchema:
    """A map by label keys."""
    return WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": value,
            "propertyNames": {"maxLength": LONGEST_KEY} | _of(LABEL_KEY_FORM),
        }
    )


_SHORT = "lower-case letters and digits, with '-' between them, at most 63"
NotEmpty = Annotated[str, Field(min_length=1)]
Labels = Annotated[
    dict[str, str], _keyed({"type": "string", "maxLength": 63} | _of(LABEL_VALUE_FORM))
]
Annotations = Annotated[dict[str, str], _keyed({"type": "string"})]
Amounts = Annotated[
    dict[str, str],
    _keyed({"type": ["string", "number"], "minimum": 0} | _of(ANY_QUANTITY_FORM)),
]
Name = Annotated[
    str,
    Field(max_length=253),
    Form(
        pattern=rf"^({SUBDOMAIN_PATTERN})?$",
        words="must be the name of a Kubernetes object, such as my-name: lower-case letters and "
        "digits, with '-' and '.' between them; or empty",
    ),
]
ServiceName = Annotated[
    str,
    Field(max_length=63),
    Form(
        pattern=r"^([a-z]([-a-z0-9]*[a-z0-9])?)?$",
        words="must be the name of a Service, such as seesaw-2: a lower-case letter, then "
        "lower-case letters and digits, with '-' between them; or empty",
    ),
]
NamePart = Annotated[
    str,
    Form(
        pattern=rf"^({SHORT_LABEL_PATTERN})?$",
        words=f"must be a name such as my-name: {_SHORT}; or empty",
    ),
]
Namespace = Annotated[
    str,
    Form(
        pattern=rf"^{SHORT_LABEL_PATTERN}$",
        words=f"must be the name of a namespace, such as team-a: {_SHORT}",
    ),
]
ImagePrefix = Annotated[
    str,
    Field(max_length=512),
    Form(
        pattern=r"^([A-Za-z0-9][-A-Za-z0-9._]*(:[0-9]+)?(/[-a-z0-9._]+)*/?)?$",
        words="must be a host, with a port and folders if need be, such as "
        "registry.example.com:5000/team/: no 'https://' and no space; or empty",
    ),
]
Tag = Annotated[  # seesaw.tag says that a number is to be quoted
    str,
    WithJsonSchema(
        {
            "type": ["string", "number"],
            "pattern": rf"^([A-Za-z0-9_][-A-Za-z0-9_.]{{0,127}}|{DIGEST_PATTERN})?$",
            "words": "must be a tag such as v1.0, up to 128 letters, digits, '-', '_' and '.', or "
            "a whole digest, such as sha256: and 64 hex digits; or empty",
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
            "words": f"must be a whole number of seconds from 1 to {MOST_SECONDS}, such as 600",
        }
    ),
]
Port = Annotated[int, Field(ge=1, le=65535)]
Cidr = str  # seesaw.checks says what is none
Interval = Annotated[  # of Prometheus
    str,
    Field(max_length=32),
    Form(
        pattern="^([0-9]+y)?([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$",
        words="must be a time of Prometheus, such as 30s or 1m30s: the largest unit first; or "
        "empty",
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
            "words": "must be a number such as 1, or a percentage such as 50%",
        }
    ),
]
