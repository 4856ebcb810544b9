"""Kinds of values in the resource: what each may look like, as Kubernetes itself has it.

What Kubernetes would refuse only once the pods are to be made, or what no part could use, is
refused by the apiserver at once. Patterns are those that Go and Python read alike.
"""

from typing import Annotated

from pydantic import BeforeValidator, Field

from seesaw_flags.values import IMAGE_PATTERN, LABEL_PATTERN, SUBDOMAIN_PATTERN

_QUALIFIED = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"

QUANTITY = r"^([1-9][0-9]*|[0-9]+(\.[0-9]{1,9})?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P))$"
CORES = r"^[0-9]+(\.[0-9]{1,3}|m)?$"
_AMOUNT = (
    r"([0-9]+(\.[0-9]*)?|\.[0-9]+)"
    r"([KMGTPE]i|[numkMGTPE]|[eE][+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+))?"
)
ANY_QUANTITY = rf"^[+-]?{_AMOUNT}$"
NOT_NEGATIVE_QUANTITY = rf"^{_AMOUNT}$"
DURATION = r"^([0-9]{1,9}(\.[0-9]{1,3})?(ms|s|m|h)){1,4}$"

MOST_SECONDS = 604_800  # a week

LABEL_KEY = rf"^({SUBDOMAIN_PATTERN}/)?{_QUALIFIED}$"
LABEL_VALUE = rf"^({_QUALIFIED})?$"


def _as_text(value: object) -> object:
    """A number that was written without quotes."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_number else value


def capitalized(value: object) -> object:
    """A word that was written in lower case."""
    return value.capitalize() if isinstance(value, str) and value.islower() else value


INT64 = {"format": "int64"}
INT_OR_STRING = {"x-kubernetes-int-or-string": True}
Quantity = Annotated[
    str,
    Field(pattern=QUANTITY, max_length=24, json_schema_extra=INT_OR_STRING),
    BeforeValidator(_as_text),
]
Cores = Annotated[
    str,
    Field(pattern=CORES, max_length=24, json_schema_extra=INT_OR_STRING),
    BeforeValidator(_as_text),
]
AnyQuantity = Annotated[  # whatever Kubernetes takes
    str,
    Field(pattern=ANY_QUANTITY, max_length=32, json_schema_extra=INT_OR_STRING),
    BeforeValidator(_as_text),
]
Seconds = Annotated[int, Field(ge=1, le=MOST_SECONDS)]
Duration = Annotated[str, Field(pattern=DURATION, max_length=32)]
ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=rf"^{SUBDOMAIN_PATTERN}$")]
DataKey = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
EnvName = Annotated[
    str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z][-._a-zA-Z0-9]*$")
]
LabelKey = Annotated[str, Field(min_length=1, max_length=317, pattern=LABEL_KEY)]
LabelValue = Annotated[str, Field(max_length=63, pattern=LABEL_VALUE)]
ContainerName = Annotated[str, Field(min_length=1, max_length=63, pattern=rf"^{LABEL_PATTERN}$")]
MountPath = Annotated[  # from the root, without '.', '..' and ':'
    str, Field(min_length=1, max_length=1024, pattern=r"^(/(\.{0,2}[^/.:][^/:]*)?)+$")
]
Image = Annotated[str, Field(min_length=1, max_length=1024, pattern=rf"^{IMAGE_PATTERN}$")]
DeviceResource = Annotated[
    str, Field(min_length=1, max_length=253, pattern=rf"^(cpu|{SUBDOMAIN_PATTERN}/{_QUALIFIED})$")
]
# Without spaces and characters that cannot be seen, and no flag.
ServedName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[^-\pC\pZ][^\pC\pZ]*$")]
ModelUri = Annotated[
    str,
    Field(
        min_length=1,
        max_length=2048,
        pattern=rf"^(pvc://{SUBDOMAIN_PATTERN}(/[^\pC\pZ]*)?|/[^\pC\pZ]+"
        r"|(hf://)?[A-Za-z0-9][-A-Za-z0-9._]*(/[-A-Za-z0-9._]+)?)$",
    ),
]


def cel_quantity(field: str) -> str:
    """A field that may be a number or a string, as CEL's quantity; zero if it is neither, which
    its own bounds refuse."""
    text = f"string({field})"
    return f"quantity(isQuantity({text}) ? {text} : '0')"
