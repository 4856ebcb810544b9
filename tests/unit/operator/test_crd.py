"""The generated CustomResourceDefinition is structural, documented and says what it must."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from seesaw_operator.api.crd import definition
from seesaw_operator.api.spec import Spec
from seesaw_operator.api.status import Plan, RejectedPlan

ROOT = Path(__file__).parents[3]
SCHEMA = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
LEAVES = {"string", "integer", "boolean"}


def walk(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, below in schema.get("properties", {}).items():
        yield from walk(below, f"{path}.{name}")
    for part in ("items", "additionalProperties"):
        if part in schema:
            yield from walk(schema[part], f"{path}[]")


def is_int_or_string(schema: dict[str, Any]) -> bool:
    """Kubernetes' one exception: a quantity that may be written without quotes."""
    return bool(schema.get("x-kubernetes-int-or-string"))


def test_every_field_has_a_type_and_a_sentence() -> None:
    for path, schema in walk(SCHEMA):
        if not is_int_or_string(schema):
            assert schema["type"] in LEAVES | {"object", "array"}, path
        if not path.endswith("[]"):
            assert schema["description"].endswith("."), path


def test_the_schema_is_structural() -> None:
    for path, schema in walk(SCHEMA):
        wrong = {"$ref", "anyOf", "oneOf", "allOf", "title", "nullable"} & schema.keys()
        if path.endswith(".podTemplate.metadata.creationTimestamp"):
            wrong.remove("nullable")  # as kubectl writes it
        assert not wrong, path


def test_no_pattern_stands_where_words_would_help() -> None:
    assert not [path for path, schema in walk(SCHEMA) if "pattern" in schema]


def test_strings_lists_and_maps_are_bounded_so_that_rules_stay_cheap() -> None:
    for path, schema in walk(SCHEMA["properties"]["spec"]):
        if schema.get("type") == "object" and "additionalProperties" in schema:
            assert "maxProperties" in schema, path
        if schema.get("type") == "integer":
            assert {"minimum", "maximum"} <= schema.keys(), path
        if schema.get("type", "string") == "string" and "enum" not in schema:
            assert "maxLength" in schema, path
        if schema.get("type") == "array":
            assert "maxItems" in schema, path


def test_texts_and_lists_of_the_status_are_bounded_too() -> None:
    for path, schema in walk(SCHEMA["properties"]["status"]):
        if schema["type"] == "string" and "enum" not in schema:
            assert "maxLength" in schema, path
        if schema["type"] == "array":
            assert "maxItems" in schema, path


def test_what_is_too_long_for_the_status_is_shortened_and_not_refused() -> None:
    rejected = tuple(RejectedPlan(layout="T" * 9_000, reason="x" * 90_000) for _ in range(999))
    plan = Plan(prefill="T1", decode="T1", reason="y" * 90_000, rejected=rejected)
    bounds = SCHEMA["properties"]["status"]["properties"]["plan"]["properties"]
    assert len(plan.rejected) == bounds["rejected"]["maxItems"]
    inside = bounds["rejected"]["items"]["properties"]
    assert len(plan.rejected[0].layout) == inside["layout"]["maxLength"]
    assert len(plan.reason) == bounds["reason"]["maxLength"]
    assert (plan.reason[0], plan.reason[-1]) == ("y", "y")


def test_lists_say_how_they_are_merged() -> None:
    for path, schema in walk(SCHEMA):
        if schema.get("type") == "array":
            kind = schema["x-kubernetes-list-type"]
            assert kind in ("atomic", "map", "set"), path
            keys = schema.get("x-kubernetes-list-map-keys", ())
            assert bool(keys) == (kind == "map"), path
            assert set(keys) <= set(schema["items"].get("required", ())), path


def test_a_rule_names_the_field_and_the_kind_of_mistake() -> None:
    for path, schema in walk(SCHEMA["properties"]["spec"]):
        for rule in schema.get("x-kubernetes-validations", ()):
            assert rule["reason"].startswith("FieldValue"), rule
            about = (path.rsplit(".", 1)[-1], *schema.get("properties", ()))
            is_named = any(each in rule["message"] for each in about if each)
            assert "fieldPath" in rule or is_named or "properties" not in schema, rule


def test_generations_are_as_large_as_those_of_kubernetes() -> None:
    found = [s for path, s in walk(SCHEMA) if path.endswith(".observedGeneration")]
    assert [schema["format"] for schema in found] == ["int64", "int64"]


def test_only_the_model_must_be_given() -> None:
    assert SCHEMA["properties"]["spec"]["required"] == ["model"]
    assert SCHEMA["properties"]["spec"]["properties"]["model"]["required"] == ["uri"]


@pytest.mark.parametrize("page", ["README.md", "docs/kubernetes.md"])
def test_a_row_in_the_docs_is_as_kubectl_prints_it(page: str) -> None:
    head, row = re.findall(r"^NAME  .*\n.*", (ROOT / page).read_text(), re.MULTILINE)[0].split("\n")
    columns = definition()["spec"]["versions"][0]["additionalPrinterColumns"]
    shown = [c["name"].upper() for c in columns if not c.get("priority")]
    assert head.split() == ["NAME", *shown]
    values = dict(zip(head.split(), row.split(), strict=True))
    assert re.fullmatch("[0-9]+/[0-9]+", values["REPLICAS"])


def test_examples_spell_words_as_the_reference_does() -> None:
    for example in (ROOT / "manifests/examples").glob("*.yaml"):
        for found in yaml.safe_load_all(example.read_text()):
            word = found["spec"].get("reshard", "Auto")
            assert word == word.capitalize(), example


def test_defaults_are_those_of_the_models() -> None:
    spec = Spec.model_validate({"model": {"uri": "org/model"}})
    properties = SCHEMA["properties"]["spec"]["properties"]
    assert properties["replicas"]["default"] == spec.replicas
    assert properties["kvBuffer"]["default"] == {}
    assert properties["kvBuffer"]["properties"]["size"]["default"] == spec.kv_buffer.size
