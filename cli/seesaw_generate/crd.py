"""Prints the reference of the custom resource as Markdown, from the definition itself.

``make docs`` writes it to ``docs/reference-crd.md``; a test keeps that file up to date.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

from seesaw_generate.flags import table
from seesaw_operator.api.crd import GROUP, KIND, SHORT, VERSION, definition

_HEAD = f"""\
# Reference: {KIND}

<!-- Made by `make docs` from the code. Edit the code, not this file. -->

`apiVersion: {GROUP}/{VERSION}`, `kind: {KIND}`, short name `{SHORT}`.
`kubectl explain {SHORT}.spec` says the same.
"""

Schema = dict[str, Any]


def reference() -> str:
    """The whole document."""
    schema = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    spec, status = (schema["properties"][part] for part in ("spec", "status"))
    messages = dict.fromkeys(
        rule["message"]
        for part in _parts(schema)
        for rule in part.get("x-kubernetes-validations", ())
    )
    return "\n".join(
        [
            _HEAD,
            "## spec",
            "",
            *table(("Field", "Type", "Default", "Meaning"), _rows(spec, "")),
            "",
            "## Rules",
            "",
            "What the apiserver refuses, beside values out of bounds:",
            "",
            *(f"- {message}." for message in messages),
            "",
            "## status",
            "",
            *table(
                ("Field", "Type", "Meaning"),
                ((field, kind, text) for field, kind, _, text in _rows(status, "")),
            ),
        ]
    )


def _rows(schema: Schema, above: str) -> Iterator[tuple[str, str, str, str]]:
    needed = schema.get("required", ())
    for name, field in schema["properties"].items():
        rules = field.get("x-kubernetes-validations", ())
        if any(rule["rule"] in ("false", "!self") for rule in rules):
            continue  # it cannot be set, as the rules say
        path = f"{above}.{name}" if above else name
        inner = field.get("items", field)
        default = field.get("default")
        shown = "" if default in (None, {}) else f"`{json.dumps(default)}`"
        if name in needed:
            shown = "required"
        path += "[]" if "items" in field else ""
        yield f"`{path}`", _kind(field), shown, field["description"]
        if "properties" in inner and "x-kubernetes-preserve-unknown-fields" not in inner:
            yield from _rows(inner, path)


def _kind(field: Schema) -> str:
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"] if value)
    if "items" in field:
        return f"list of {field['items']['type']}s"
    if "additionalProperties" in field:
        return f"map of {field['additionalProperties']['type']}s"
    if "type" not in field:
        return "integer or string"
    bounds = [str(field.get(bound, "")) for bound in ("minimum", "maximum")]
    return str(field["type"]) + (f", {bounds[0]} to {bounds[1]}".rstrip() if any(bounds) else "")


def _parts(schema: Schema) -> Iterator[Schema]:
    yield schema
    for below in (*schema.get("properties", {}).values(), *filter(None, [schema.get("items")])):
        yield from _parts(below)


if __name__ == "__main__":
    sys.stdout.write(reference() + "\n")
