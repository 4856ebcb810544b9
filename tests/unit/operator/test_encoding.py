"""What is sent to the apiserver can be read there, whatever a log or a name has in it."""

import yaml
from hypothesis import given
from hypothesis import strategies as st

from seesaw_operator.cluster.encoding import apply_body

ANY_CHARACTER = st.characters()  # surrogates, control characters and emoji among them


@given(st.text(ANY_CHARACTER))
def test_any_text_comes_back_from_a_yaml_reader_but_for_half_characters(text: str) -> None:
    expected = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)
    assert yaml.safe_load(apply_body({"note": text})) == {"note": expected}


def test_plain_values_keep_their_types() -> None:
    body = {"on": "yes", "version": "1.10", "count": 3, "share": 0.5, "none": None, "list": [True]}
    assert yaml.safe_load(apply_body(body)) == body
