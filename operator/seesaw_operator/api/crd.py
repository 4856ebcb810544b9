"""The CustomResourceDefinition, generated from the typed models."""

from collections.abc import Iterable

from seesaw_operator.api import owned
from seesaw_operator.api.rules import Rule
from seesaw_operator.api.schema import Schema, object_schema, rule_schema
from seesaw_operator.api.spec import Spec
from seesaw_operator.api.status import Status

GROUP = owned.GROUP
VERSION = "v1alpha1"
KIND = "SeesawDeployment"
PLURAL = "seesawdeployments"
SHORT = "ssd"

_NAMING = (
    Rule(
        cel="size(self.metadata.name) <= 40",
        message="metadata.name must have at most 40 characters: the names of pods and Services are "
        "made from it",
    ),
    Rule(
        cel="self.metadata.name.matches('^[a-z]')",
        message="metadata.name must begin with a letter: a Service is named after it",
    ),
    Rule(
        cel="!self.metadata.name.contains('.')",
        message="metadata.name must not contain dots: a Service is named after it",
    ),
)


def definition() -> Schema:
    """Return the whole CustomResourceDefinition."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": [SHORT],
                "categories": ["all"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.replicas",
                            "statusReplicasPath": ".status.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                    "additionalPrinterColumns": list(_columns()),
                    "schema": {"openAPIV3Schema": _root()},
                }
            ],
        },
    }


def _columns() -> Iterable[Schema]:
    ready = '.status.conditions[?(@.type=="Ready")]'
    yield {"name": "Ready", "type": "string", "jsonPath": f"{ready}.status"}
    yield {"name": "Replicas", "type": "string", "jsonPath": ".status.workers"}
    yield {"name": "Prefill", "type": "string", "jsonPath": ".status.layouts.prefill"}
    yield {"name": "Decode", "type": "string", "jsonPath": ".status.layouts.decode"}
    yield {"name": "Tok/s", "type": "integer", "jsonPath": ".status.measured.tokensPerSecond"}
    yield {"name": "URL", "type": "string", "jsonPath": ".status.url"}
    available = '.status.conditions[?(@.type=="Available")]'
    yield {
        "name": "Available",
        "type": "string",
        "jsonPath": f"{available}.status",
        "priority": 1,
    }
    yield {"name": "Reason", "type": "string", "jsonPath": f"{ready}.reason", "priority": 1}
    yield {
        "name": "Instances",
        "type": "string",
        "jsonPath": ".status.measured.elastic.instances",
        "priority": 1,
    }
    yield {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def _root() -> Schema:
    return {
        "type": "object",
        "description": "An LLM served by workers that prefill under one layout and decode under "
        "another on the same devices, or by elastic instances, behind one OpenAI-compatible "
        "endpoint.",
        "required": ["spec"],
        "properties": {
            "spec": object_schema(Spec, "The desired state."),
            "status": object_schema(Status, "The observed state."),
        },
        "x-kubernetes-validations": list(map(rule_schema, _NAMING)),
    }


def document() -> str:
    """Return the definition as a YAML document."""
    import yaml

    head = (
        "# Made by `make docs` from operator/seesaw_operator/api. Edit the models, not this file.\n"
    )
    return head + str(yaml.safe_dump(definition(), sort_keys=False, width=100))


if __name__ == "__main__":
    print(document(), end="")
