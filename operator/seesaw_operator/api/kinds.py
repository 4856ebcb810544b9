"""Kinds of values in the resource: what each may look like, as Kubernetes itself has it.

What Kubernetes would refuse only once the pods are to be made, or what no part could use, is
refused by the apiserver at once. Patterns are those that Go and Python read alike.
"""

from typing import Annotated

from pydantic import BeforeValidator, Field

from seesaw_flags.values import IMAGE_PATTERN, LABEL_PATTERN, SUBDOMAIN_PATTERN

_UNSEEN = r"\x00-\x1f\x7f"
_QUALIFIED = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"

_HUB_NAME = r"[A-Za-z0-9_]*((-|\.|-\.|\.-)[A-Za-z0-9_]+)*"  # no '--' and '..' inside
_OCTET = r"(25[0-5]|2[0-4][0-9]|[01]?[0-9]?[0-9])"
_IPV4 = rf"{_OCTET}(\.{_OCTET}){{3}}"
_H = "[0-9a-fA-F]{1,4}"
_IPV6 = (
    rf"(({_H}:){{7}}{_H}|({_H}:){{1,7}}:|:(:{_H}){{1,7}}|::|::([fF]{{4}}:)?{_IPV4}|"
    rf"({_H}:){{6}}{_IPV4}|({_H}:){{1,5}}(:{_H}){{0,4}}:{_IPV4}|"
    + "|".join(rf"({_H}:){{1,{7 - after}}}(:{_H}){{1,{after}}}" for after in range(1, 7))
    + ")"
)
# Exponents are bounded: of 1e999999999 an apiserver would compute each digit.
QUANTITY = (
    r"^([1-9][0-9]*|([0-9]+(\.[0-9]{0,9})?|\.[0-9]{1,9})"
    r"(Ki|Mi|Gi|Ti|Pi|Ei|k|M|G|T|P|E|[eE]\+?(0?[0-9]|1[0-8])))$"
)
CORES = (  # above 0
    r"^(0*[1-9][0-9]{0,5}(\.[0-9]{0,3})?|0*\.([1-9][0-9]{0,2}|0[1-9][0-9]?|00[1-9])"
    r"|0*[1-9][0-9]{0,8}m)$"
)
ANY_QUANTITY = (
    r"^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)"
    r"([KMGTPE]i|[numkMGTPE]|[eE][+-]?(0?[0-9]|1[0-8]))?$"
)
# At most 24h are taken; so few digits that no sum of four overflows.
DURATION = r"^([0-9]{1,8}(\.[0-9]{1,3})?(ms|s)|[0-9]{1,4}(\.[0-9]{1,3})?(m|h)){1,4}$"

MOST_SECONDS = 604_800  # a week

_KEY = rf"({SUBDOMAIN_PATTERN}/)?{_QUALIFIED}"
LABEL_KEY = rf"^{_KEY}$"
LONGEST_KEY = 317  # 253 of a domain, a slash and 63
OPTIONAL_LABEL_KEY = rf"^({_KEY})?$"
TEXT = r"^[^\x00]*$"  # no process can be given a NUL
LABEL_VALUE = rf"^({_QUALIFIED})?$"


def _as_text(value: object) -> object:
    """A number that was written without quotes."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_number else value


def _given(value: object) -> object:
    """Nothing where there is an empty text, which Kubernetes reads alike."""
    return None if value == "" else value


def capitalized(value: object) -> object:
    """A word that was written in lower case."""
    return value.capitalize() if isinstance(value, str) and value.islower() else value


INT64 = {"format": "int64"}
INT_OR_STRING = {"x-kubernetes-int-or-string": True, "minimum": 0}
ABOVE_0 = INT_OR_STRING | {"exclusiveMinimum": True, "maximum": 999_999}
Quantity = Annotated[
    str,
    Field(pattern=QUANTITY, max_length=24, json_schema_extra=INT_OR_STRING),
    BeforeValidator(_as_text),
]
Cores = Annotated[
    str,
    Field(pattern=CORES, max_length=24, json_schema_extra=ABOVE_0),
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
# Neither '.' nor anything that begins with '..', which would be a folder.
DataKey = Annotated[
    str, Field(min_length=1, max_length=253, pattern=r"^\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*$")
]
EnvName = Annotated[
    str,
    Field(min_length=1, max_length=253, pattern=r"^([-_a-zA-Z]|\.[-_a-zA-Z0-9])[-._a-zA-Z0-9]*$"),
]
AnyEnvName = Annotated[  # as newer clusters have it: what can be seen, and no '='
    str, Field(min_length=1, max_length=1024, pattern=r"^[ -<>-~]+$")
]
FieldPath = Annotated[
    str,
    Field(
        min_length=1,
        max_length=400,
        pattern=r"^(metadata\.(name|namespace|uid)|spec\.(nodeName|serviceAccountName)"
        rf"|status\.(hostIPs?|podIPs?)|metadata\.(labels|annotations)\['{_KEY}'\])$",
    ),
]
Text = Annotated[str, Field(max_length=4096, pattern=TEXT)]
Annotation = Annotated[str, Field(max_length=65536, pattern=TEXT)]
LabelKey = Annotated[str, Field(min_length=1, max_length=LONGEST_KEY, pattern=LABEL_KEY)]
LabelValue = Annotated[str, Field(max_length=63, pattern=LABEL_VALUE)]
# As many charts write what they do not set.
OptionalLabelKey = Annotated[
    Annotated[str, Field(max_length=LONGEST_KEY, pattern=OPTIONAL_LABEL_KEY)] | None,
    BeforeValidator(_given),
]
OptionalLabelValue = Annotated[LabelValue | None, BeforeValidator(_given)]
ContainerName = Annotated[str, Field(min_length=1, max_length=63, pattern=rf"^{LABEL_PATTERN}$")]
MountPath = Annotated[  # from the root, without '.', '..' and ':'
    str,
    Field(
        min_length=1,
        max_length=1024,
        pattern=rf"^(/(\.{{0,2}}[^/.:{_UNSEEN}][^/:{_UNSEEN}]*)?)+$",
    ),
]
Image = Annotated[str, Field(min_length=1, max_length=1024, pattern=rf"^{IMAGE_PATTERN}$")]
PortName = Annotated[  # with a letter, and no two dashes in a row
    str,
    Field(min_length=1, max_length=15, pattern=r"^([0-9]+-)*[0-9]*[a-z][a-z0-9]*(-[a-z0-9]+)*$"),
]
Address = Annotated[str, Field(min_length=1, max_length=64, pattern=rf"^({_IPV4}|{_IPV6})$")]
Network = Annotated[
    str,
    Field(
        max_length=64,
        pattern=rf"^({_IPV4}/(3[0-2]|[12]?[0-9])|{_IPV6}/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))$",
    ),
]
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
        pattern=rf"^(pvc://{SUBDOMAIN_PATTERN}(/[^\pC\pZ]*)?|/+[^/\pC\pZ][^\pC\pZ]*"
        rf"|(hf://)?[A-Za-z0-9]{_HUB_NAME}(/[A-Za-z0-9_]{_HUB_NAME})?)$",
    ),
]


def cel_is_quantity(field: str) -> str:
    """Whether it is there and one: if not, its own bounds tell so."""
    return f"has({field}) && isQuantity(string({field}))"


def cel_is_key(name: str) -> str:
    """CEL: whether a text of that name may be the key of a label."""
    return f"size({name}) <= {LONGEST_KEY} && {name}.matches(r'{LABEL_KEY}')"


def cel_quantity(field: str) -> str:
    """A field that may be a number or a string, as CEL's quantity; zero if it is neither, which
    its own bounds refuse."""
    text = f"string({field})"
    return f"quantity(isQuantity({text}) ? {text} : '0')"
