"""``values.yaml``, ``values.schema.json`` and the README of the chart, from the typed values."""

import json
import textwrap
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic.fields import FieldInfo

from seesaw_generate.chart.part import Part
from seesaw_generate.chart.values import Values
from seesaw_generate.flags import table

Json = dict[str, Any]

EACH, KEY = "*", "@"  # steps of a path: each item or value, and each key
_OURS = frozenset({"title", "pattern", "words"})  # titles are made by pydantic
_WIDTH = 100
_HEAD = "Made by `make docs` from cli/seesaw_cli/chart. Edit the models, not this file."
_README = f"""\
# Seesaw's chart

<!-- {_HEAD} -->

The operator of SeesawDeployments: LLM serving on vLLM that re-shards itself between prefill and
decode. Needs Kubernetes 1.30 or newer.

```
helm install seesaw charts/seesaw --namespace seesaw-system --create-namespace \\
    --set images.prefix=$REGISTRY/
```

How to go on, upgrade, monitor and fence it in: docs/kubernetes.md in Seesaw's repository.

## Values

"""


def values_yaml() -> str:
    """The defaults, each with what it means."""
    return f"# {_HEAD}\n\n" + "\n".join(_yaml_lines(Values(), 0)) + "\n"


def schema_json() -> str:
    """The JSON schema that helm holds values against."""
    schema = _without(_OURS, Values.model_json_schema(by_alias=True))
    schema["properties"]["global"] = {"type": "object"}  # helm's own, where this is a subchart
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def forms_json() -> str:
    """What the chart's templates refuse in words: each form with the values that have it."""
    schema = Values.model_json_schema(by_alias=True)
    forms: dict[tuple[str, str], list[str]] = {}
    for pattern, words, path in _formed(schema, schema, ()):
        forms.setdefault((pattern, words), []).append(path)
    made = [{"pattern": p, "words": w, "paths": paths} for (p, w), paths in forms.items()]
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def readme() -> str:
    """The chart's README."""
    rows = table(("Value", "Default", "Meaning"), _rows(Values(), ""))
    return _README + "\n".join(rows) + "\n"


def _fields(part: Part) -> Iterator[tuple[str, FieldInfo, Any]]:
    for name, field in type(part).model_fields.items():
        yield field.alias or name, field, getattr(part, name)


def _yaml_lines(part: Part, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for name, field, value in _fields(part):
        text = textwrap.wrap(field.description or "", _WIDTH - len(indent) - 2)
        yield from (f"{indent}# {line}" for line in text)
        if isinstance(value, Part):
            yield f"{indent}{name}:"
            yield from _yaml_lines(value, depth + 1)
        else:
            flow = None if isinstance(value, dict | list) else False  # None: the innermost only
            written = yaml.safe_dump({name: value}, default_flow_style=flow, sort_keys=False)
            yield from (f"{indent}{line}" for line in written.replace("''", '""').splitlines())
        if not depth:
            yield ""


def _rows(part: Part, above: str) -> Iterator[tuple[str, str, str]]:
    for name, field, value in _fields(part):
        path = f"{above}{name}"
        if isinstance(value, Part):
            yield from _rows(value, f"{path}.")
        else:
            yield f"`{path}`", f"`{json.dumps(value)}`", field.description or ""


def _without(keys: frozenset[str], schema: Any) -> Any:
    """A schema without some of its keywords."""
    if isinstance(schema, list):
        return [_without(keys, each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _without(keys, value) for key, value in schema.items() if key not in keys}


def _formed(schema: Json, whole: Json, path: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    """Where values have a form: pattern, words and path."""
    if "$ref" in schema:
        schema = whole["$defs"][schema["$ref"].rpartition("/")[2]]
    if {"pattern", "words"} <= schema.keys():
        yield schema["pattern"], schema["words"], "/".join(path)
    for pattern, below in schema.get("patternProperties", {}).items():  # pydantic's, of keys
        yield pattern, schema["propertyNames"]["words"], "/".join((*path, KEY))
        yield from _formed(below, whole, (*path, EACH))
    for name, below in schema.get("properties", {}).items():
        yield from _formed(below, whole, (*path, name))
    for keyword, step in (("items", EACH), ("additionalProperties", EACH), ("propertyNames", KEY)):
        if isinstance(schema.get(keyword), dict):
            yield from _formed(schema[keyword], whole, (*path, step))
