"""What a value must look like is told in words, by the models as by the CRD."""

import pytest

from seesaw_core.errors import InputError
from seesaw_operator.api.crd import document
from seesaw_operator.objects.validation import validated_spec

MODEL = {"uri": "org/model"}


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ({"model": {"uri": "s3://a/b"}}, "spec.model.uri: must be a repository of Hugging Face"),
        ({"kvBuffer": {"size": "64GB"}}, "spec.kvBuffer.size: must be a size such as 64Gi"),
        ({"kvBuffer": {"size": -1}}, "spec.kvBuffer.size: must be a size such as 64Gi"),
        ({"engine": {"image": "foo bar"}}, "spec.engine.image: must be the name of an image"),
        ({"engine": {"image": ""}}, "spec.engine.image: must be the name of an image"),
        ({"profile": "Bad_Name"}, "spec.profile: must be the name of a Kubernetes object"),
    ],
)
def test_what_was_stored_before_is_refused_in_the_words_of_the_definition(
    written: dict[str, object], told: str
) -> None:
    with pytest.raises(InputError) as refused:
        validated_spec({"model": MODEL} | written, {})
    assert str(refused.value).startswith(told)
    words = str(refused.value).partition(": ")[2].partition(" (got ")[0]
    assert words.split("'")[0] in " ".join(document().split())


def test_every_field_that_is_wrong_is_named() -> None:
    with pytest.raises(InputError) as refused:
        validated_spec({"model": {"uri": ""}, "kvBuffer": {"size": "1.5"}, "profile": "A"}, {})
    assert "wrong as well: kvBuffer.size, profile. Correct" in str(refused.value)
    many = {"engine": {"env": [{"name": "="}] * 20}}
    with pytest.raises(InputError, match=r"engine\.env\.8\.name and 11 others"):
        validated_spec({"model": MODEL} | many, {})
