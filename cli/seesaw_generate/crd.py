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

_MOST_NAMED = 3
_OF_VALUE = "must "  # what is said of one value begins with it
Schema = dict[str, Any]


def reference() -> str:
    """The whole document."""
    schema = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    spec, status = (schema["properties"][part] for part in ("spec", "status"))
    messages: dict[str, list[str]] = {}
    for path, part in _parts(schema, ""):
        for rule in part.get("x-kubernetes-validations", ()):
            messages.setdefault(rule["message"], []).append(path.removeprefix("spec."))
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
            *(f"- {_of_form(paths, message)}." for message, paths in messages.items()),
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


def _of_form(paths: list[str], message: str) -> str:
    """What the apiserver says of one value, with the field that it would name before."""
    if not message.startswith(_OF_VALUE):
        return message
    more = " and others" if len(paths) > _MOST_NAMED else ""
    return f"{', '.join(f'`{path}`' for path in paths[:_MOST_NAMED])}{more} {message}"


def _parts(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    yield path, schema
    for name, below in schema.get("properties", {}).items():
        yield from _parts(below, f"{path}.{name}" if path else name)
    for keyword in ("items", "additionalProperties"):
        if keyword in schema:
            yield from _parts(schema[keyword], f"{path}[]")


if __name__ == "__main__":
    sys.stdout.write(reference() + "\n")
