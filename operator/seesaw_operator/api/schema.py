"""Structural schemas for Kubernetes, generated from typed models.

They have no references, unions and titles, and a default at each level where one is to be filled
in.
"""

import types
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from seesaw_operator.api.field_types import INT64, INT_OR_STRING
from seesaw_operator.api.forms import Form
from seesaw_operator.api.rules import Foreign, Reason, Rule, foreign_of, rules_of

Schema = dict[str, Any]

_BOUNDS = {
    "ge": "minimum",
    "le": "maximum",
    "min_length": "minLength",
    "max_length": "maxLength",
}
_FREE = {"x-kubernetes-preserve-unknown-fields": True}
_TEXT: Schema = {"type": "string", "maxLength": 65536}
_FOREIGN: dict[str, Schema] = {
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer", "format": "int64", "minimum": -(2**31), "maximum": 2**31 - 1},
    "object": {"type": "object"} | _FREE,
    "objects": {
        "type": "array",
        "items": {"type": "object"} | _FREE,
        "maxItems": 64,
        "x-kubernetes-list-type": "atomic",
    },
    "string": _TEXT,
    "strings": {
        "type": "array",
        "items": _TEXT,
        "maxItems": 256,
        "x-kubernetes-list-type": "atomic",
    },
    "time": {"type": "string", "format": "date-time", "maxLength": 64, "nullable": True},
}
_MAP_BOUNDS = {"min_length": "minProperties", "max_length": "maxProperties"}
_ARRAY_BOUNDS = {"min_length": "minItems", "max_length": "maxItems"}


def object_schema(model: type[BaseModel], description: str) -> Schema:
    """Return the schema of a model, with its rules."""
    schema: Schema = {"type": "object", "description": description}
    required = [_outside(n, f) for n, f in model.model_fields.items() if f.is_required()]
    if required:
        schema["required"] = required
    schema["properties"] = {
        _outside(name, field): _field(field) for name, field in model.model_fields.items()
    } | {name: _foreign(field) for name, field in foreign_of(model).items()}
    if rules_of(model):
        schema["x-kubernetes-validations"] = list(map(rule_schema, rules_of(model)))
    if model.model_config.get("extra") == "allow":
        schema |= _FREE
    return schema


def rule_schema(rule: Rule) -> Schema:
    """Return a rule as the apiserver reads it."""
    made = {"rule": rule.cel, "message": rule.message, "reason": rule.reason.value}
    return (
        made
        | ({"messageExpression": rule.told} if rule.told else {})
        | ({"fieldPath": rule.path} if rule.path else {})
    )


def _foreign(field: Foreign) -> Schema:
    """Return the schema of a core/v1 field that only rules refer to, such as that it is not set."""
    schema = _FOREIGN[field.kind] | {"description": "As in core/v1, for containers that you add."}
    if field.form is not None:
        formed = rule_schema(_form_rule(field.form, "self"))
        schema |= {"maxLength": field.max_length, "x-kubernetes-validations": [formed]}
    if field.refusal is None:
        return schema
    never = "!self" if field.kind == "boolean" else "false"  # false is as good as not set
    rule = Rule(cel=never, message=field.refusal, reason=Reason.FORBIDDEN)
    return schema | {
        "description": "Cannot be set.",
        "x-kubernetes-validations": [rule_schema(rule)],
    }


def _outside(name: str, field: FieldInfo) -> str:
    return field.alias or name


def _field(field: FieldInfo) -> Schema:
    assert field.description, f"{field} has no description"
    schema = _value(field.annotation, [*field.metadata, field], field.description)
    default = field.default
    if default not in (PydanticUndefined, None) and default != ():
        plain = isinstance(default, BaseModel)
        schema["default"] = {} if plain else default
    if isinstance(field.json_schema_extra, dict):
        schema |= field.json_schema_extra
    return schema


def _value(annotation: Any, metadata: Iterable[Any], description: str) -> Schema:
    """Return the schema of one value of a type that the models use."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *more = get_args(annotation)
        return _value(inner, [*metadata, *more], description)
    if origin in (types.UnionType, Union):
        (inner,) = (a for a in get_args(annotation) if a is not type(None))
        return _value(inner, metadata, description)
    if origin is tuple:
        items = _value(get_args(annotation)[0], (), "")
        return {
            "type": "array",
            "description": description,
            "items": {k: v for k, v in items.items() if k != "description" or v},
            "x-kubernetes-list-type": "atomic",
            **_bounds(metadata, _ARRAY_BOUNDS),
        }
    if origin is Literal:
        return {"type": "string", "description": description, "enum": list(get_args(annotation))}
    if origin is dict:
        if get_args(annotation)[1] is Any:
            return {"type": "object", "description": description} | _FREE
        values = _value(get_args(annotation)[1], (), "")
        return {
            "type": "object",
            "description": description,
            "additionalProperties": {k: v for k, v in values.items() if k != "description"},
            **_bounds(metadata, _MAP_BOUNDS),
        }
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return object_schema(annotation, description or (annotation.__doc__ or "").strip())
    kinds = {bool: "boolean", int: "integer", str: "string"}
    kind = next(name for base, name in kinds.items() if issubclass(annotation, base))
    schema: Schema = {"type": kind, "description": description}
    if kind == "integer":
        schema["format"] = "int64" if _says(metadata, INT64) else "int32"
    text = "self"
    if _says(metadata, INT_OR_STRING):
        del schema["type"]  # 'anyOf' would report one mistake three times
        schema |= INT_OR_STRING
        text = "string(self)"
    rules = [_form_rule(p, text) if isinstance(p, Form) else p for p in metadata]
    made = [rule_schema(each) for each in rules if isinstance(each, Rule)]
    schema |= _bounds(metadata, _BOUNDS)
    return schema | ({"x-kubernetes-validations": made} if made else {})


def _form_rule(form: Form, text: str) -> Rule:
    """Return a rule in place of a pattern, of which the apiserver would print no explanation."""
    return Rule(cel=form.cel(text), message=form.words)


def _says(metadata: Iterable[Any], extra: Schema) -> bool:
    """Whether an annotation adds this to the schema."""
    return any(isinstance(part, FieldInfo) and part.json_schema_extra == extra for part in metadata)


def _bounds(metadata: Iterable[Any], names: dict[str, str]) -> Schema:
    """Return the bounds from annotations, which pydantic spreads over small objects."""
    found: Schema = {}
    for part in metadata:
        spread = part.metadata if isinstance(part, FieldInfo) else [part]
        for bound in spread:
            for name, keyword in names.items():
                value = getattr(bound, name, None)
                if value is not None:
                    found[keyword] = value
    return found
