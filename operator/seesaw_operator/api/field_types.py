"""Kinds of values in the resource: what each may look like, as Kubernetes itself has it.

What Kubernetes would refuse only once the pods are to be made, or what no part could use, is
refused by the apiserver at once. Patterns are those that Go and Python read alike.
"""

from typing import Annotated

from pydantic import BeforeValidator, Field

from seesaw_flags.values import IMAGE_PATTERN, LABEL_PATTERN, SUBDOMAIN_PATTERN
from seesaw_operator.api.forms import Form

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
INT_OR_STRING = {"x-kubernetes-int-or-string": True}
_NAME = "lower-case letters and digits, with '-' between them"
QUANTITY_FORM = Form(
    pattern=QUANTITY,
    words="must be a size such as 64Gi, 512Mi or 68719476736: a whole number of bytes above 0, or "
    "a number with Ki, Mi, Gi, Ti, Pi, Ei, k, M, G, T, P or E right after it",
)
Quantity = Annotated[
    str,
    Field(max_length=24, json_schema_extra=INT_OR_STRING),
    QUANTITY_FORM,
    BeforeValidator(_as_text),
]
Cores = Annotated[
    str,
    Field(max_length=24, json_schema_extra=INT_OR_STRING),
    Form(
        pattern=CORES,
        words="must be a number of processor cores above 0, such as 8, '0.5' in quotes or 500m, "
        "and below a million",
    ),
    BeforeValidator(_as_text),
]
ANY_QUANTITY_FORM = Form(
    pattern=ANY_QUANTITY,
    words="must be a quantity of at least 0, such as 2, 500m, 64Gi or 1e9, with an exponent "
    "of at most 18",
)
AnyQuantity = Annotated[  # whatever Kubernetes takes
    str,
    Field(max_length=32, json_schema_extra=INT_OR_STRING),
    ANY_QUANTITY_FORM,
    BeforeValidator(_as_text),
]
Seconds = Annotated[int, Field(ge=1, le=MOST_SECONDS)]
DURATION_FORM = Form(
    pattern=DURATION,
    words="must be a time such as 500ms, 10s, 1m30s or 2h, each number with its unit: ms, s, m "
    "or h",
)
Duration = Annotated[str, Field(max_length=32), DURATION_FORM]
ObjectName = Annotated[
    str,
    Field(max_length=253),
    Form(
        pattern=rf"^{SUBDOMAIN_PATTERN}$",
        words="must be the name of a Kubernetes object, such as my-name or my.name: lower-case "
        "letters and digits, with '-' and '.' between them",
    ),
]
# Neither '.' nor anything that begins with '..', which would be a folder.
DataKey = Annotated[
    str,
    Field(max_length=253),
    Form(
        pattern=r"^\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*$",
        words="must be a key of a Secret or ConfigMap, such as token or tls.crt: letters, digits, "
        "'-', '_' and '.', and no '..' at its beginning",
    ),
]
EnvName = Annotated[
    str,
    Field(max_length=253),
    Form(
        pattern=r"^([-_a-zA-Z]|\.[-_a-zA-Z0-9])[-._a-zA-Z0-9]*$",
        words="must be the name of a variable, such as HF_TOKEN: letters, digits, '-', '_' and "
        "'.', and no digit at its beginning",
    ),
]
AnyEnvName = Annotated[  # as newer clusters have it: what can be seen, and no '='
    str,
    Field(max_length=1024),
    Form(
        pattern=r"^[ -<>-~]+$",
        words="must be the name of a variable, such as HF_TOKEN: characters of ASCII that can be "
        "seen, and no '='",
    ),
]
FieldPath = Annotated[
    str,
    Field(max_length=400),
    Form(
        pattern=r"^(metadata\.(name|namespace|uid)|spec\.(nodeName|serviceAccountName)"
        rf"|status\.(hostIPs?|podIPs?)|metadata\.(labels|annotations)\['{_KEY}'\])$",
        words="must be metadata.name, metadata.namespace, metadata.uid, spec.nodeName, "
        "spec.serviceAccountName, status.hostIP, status.hostIPs, status.podIP, status.podIPs, "
        "metadata.labels['KEY'] or metadata.annotations['KEY']",
    ),
]
ContainerResource = Annotated[
    str,
    Field(max_length=64),
    Form(
        pattern=r"^(limits|requests)\.(cpu|memory|ephemeral-storage|hugepages-[0-9]+[KMGTPE]i)$",
        words="must be limits or requests, a '.', and cpu, memory, ephemeral-storage or hugepages "
        "such as hugepages-2Mi: limits.memory, for example",
    ),
]
Divisor = Annotated[
    str,
    Field(max_length=3, json_schema_extra=INT_OR_STRING),
    Form(
        pattern=r"^(0|1([mkMGTPE]|[KMGTPE]i)?)$",
        words="must be a unit such as 1, 1Mi, 1Gi, 1M or 1G, or 1m for cpu",
    ),
    BeforeValidator(_as_text),
]
_NO_NUL = Form(
    pattern=TEXT,
    words="must not hold the character NUL, which no process can be given",
    cheap=r"!self.contains('\x00')",
)
Text = Annotated[str, Field(max_length=4096), _NO_NUL]
EnvValue = Annotated[str, Field(max_length=32768), _NO_NUL]
Annotation = Annotated[str, Field(max_length=65536), _NO_NUL]
_OF_KEY = (
    "letters and digits, with '-', '_' and '.' between them, at most 63, and before a '/' a domain"
)
LABEL_KEY_FORM = Form(
    pattern=LABEL_KEY, words=f"must be a key such as team or example.com/team: {_OF_KEY}"
)
LabelKey = Annotated[str, Field(max_length=LONGEST_KEY), LABEL_KEY_FORM]
LABEL_VALUE_FORM = Form(
    pattern=LABEL_VALUE,
    words="must be a label's value, such as NVIDIA-L4: letters and digits, with '-', '_' and '.' "
    "between them, at most 63, or nothing",
)
LabelValue = Annotated[str, Field(max_length=63), LABEL_VALUE_FORM]
OPTIONAL_LABEL_KEY_FORM = Form(
    pattern=OPTIONAL_LABEL_KEY,
    words=f"must be a key such as nvidia.com/gpu, or nothing: {_OF_KEY}",
)
# As many charts write what they do not set.
OptionalLabelKey = Annotated[
    Annotated[
        str,
        Field(max_length=LONGEST_KEY),
        OPTIONAL_LABEL_KEY_FORM,
    ]
    | None,
    BeforeValidator(_given),
]
OptionalLabelValue = Annotated[LabelValue | None, BeforeValidator(_given)]
ContainerName = Annotated[
    str,
    Field(max_length=63),
    Form(pattern=rf"^{LABEL_PATTERN}$", words=f"must be a name such as my-name: {_NAME}"),
]
MountPath = Annotated[  # from the root, without '.', '..' and ':'
    str,
    Field(max_length=1024),
    Form(
        pattern=r"^(/(\.{0,2}[^/.:\p{Cc}][^/:\p{Cc}]*|\.{3}[^/:\p{Cc}]*)?)+$",
        cheap=r"self.matches(r'^/[^:\p{Cc}]*$') && !self.contains('/./') && "
        "!self.contains('/../') && !self.endsWith('/.') && !self.endsWith('/..')",
        words="must be an absolute path such as /data/models, without '.', '..', ':' and "
        "characters that cannot be seen",
    ),
]
IMAGE_FORM = Form(
    pattern=rf"^{IMAGE_PATTERN}$",
    words="must be the name of an image, such as registry.example.com/team/name:tag: no 'https://' "
    "and no space, lower case after the host, and if there is a digest, '@sha256:' with 64 hex "
    "digits",
)
Image = Annotated[str, Field(max_length=1024), IMAGE_FORM]
PortName = Annotated[  # with a letter, and no two dashes in a row
    str,
    Field(max_length=15),
    Form(
        pattern=r"^([0-9]+-)*[0-9]*[a-z][a-z0-9]*(-[a-z0-9]+)*$",
        words="must be a port's name, such as http or metrics-2: lower-case letters, at least one, "
        "and digits, with single '-' between them",
    ),
]
Address = Annotated[
    str,
    Field(max_length=64),
    Form(
        pattern=rf"^({_IPV4}|{_IPV6})$", words="must be an IP address, such as 10.0.0.1 or fd00::1"
    ),
]
Network = Annotated[
    str,
    Field(max_length=64),
    Form(
        pattern=rf"^({_IPV4}/(3[0-2]|[12]?[0-9])|{_IPV6}/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))$",
        words="must be a network, such as 10.0.0.0/8, 192.0.2.7/32 or fd00::/8",
    ),
]
DEVICE_FORM = Form(
    pattern=rf"^(cpu|{SUBDOMAIN_PATTERN}/{_QUALIFIED})$",
    words="must be 'cpu' or what a device plugin offers, such as nvidia.com/gpu",
)
DeviceResource = Annotated[str, Field(max_length=253), DEVICE_FORM]
Product = Annotated[
    str,
    Field(max_length=63),
    Form(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._,()/+-]*$",
        words="must be the name of a product, such as L4 or NVIDIA H100 80GB HBM3: letters, "
        "digits, spaces and . _ , ( ) / + -",
    ),
]
# Without spaces and characters that cannot be seen, and no flag.
ServedName = Annotated[
    str,
    Field(max_length=253),
    Form(
        pattern=r"^[^-\pC\pZ][^\pC\pZ]*$",
        words="must be one word such as llama-3.1-70b: no spaces, no characters that cannot be "
        "seen, and no '-' at its beginning",
    ),
]
_PATH = r"([^\pC\pZ]| +[^ \pC\pZ])*"  # with spaces inside
MODEL_FORM = Form(
    pattern=rf"^(pvc://{SUBDOMAIN_PATTERN}(/{_PATH})?|/+[^/\pC\pZ]{_PATH}"
    rf"|(hf://)?[A-Za-z0-9]{_HUB_NAME}(/[A-Za-z0-9_]{_HUB_NAME})?)$",
    words="must be a repository of Hugging Face such as meta-llama/Llama-3.1-8B, an absolute "
    "path in the image such as /models/llama, or pvc://CLAIM/PATH; s3:// and other schemes "
    "are not read: copy the model to a PersistentVolumeClaim",
)
ModelUri = Annotated[str, Field(max_length=2048), MODEL_FORM]


def cel_is_quantity(field: str) -> str:
    """Whether it is there and one: if not, its own form tells so."""
    return f"has({field}) && {QUANTITY_FORM.cel(f'string({field})')}"


def cel_is_key(name: str) -> str:
    """CEL: whether a text of that name may be the key of a label."""
    return f"size({name}) <= {LONGEST_KEY} && {name}.matches(r'{LABEL_KEY}')"


def cel_wrong_key(field: str, said: str) -> str:
    """CEL: a message about the first key of a map that is none, with the key itself in the end."""
    return f'"{said} \'" + {field}.filter(key, !({cel_is_key("key")}))[0] + "\'"'


def cel_quantity(field: str) -> str:
    """A field that may be a number or a string, as CEL's quantity; zero if it is neither, which
    its own form refuses."""
    text = f"string({field})"
    return f"quantity(isQuantity({text}) ? {text} : '0')"
