"""The short form of the matrix, and the comparison itself."""

import json
from pathlib import Path

import pytest

from conformance import table
from conformance.check import SUBJECTS, Asked, check
from conformance.client_runs import OPENAI
from conformance.differences import Difference, Explained, differences, stale
from conformance.streams import fold, parse_events
from seesaw_worker.synthetic import TINY, write_checkpoint


def chunk(text: str, index: int = 0, finish: str | None = None) -> str:
    choice = {"index": index, "text": text, "finish_reason": finish}
    last = {"system_fingerprint": "f"} if finish else {}
    return f"data: {json.dumps({'id': 'a', 'choices': [choice]} | last)}\n\n"


def folded(*chunks: str) -> list[dict[str, object]]:
    return fold(parse_events("".join(chunks) + "data: [DONE]\n\n"))


def test_streams_that_were_cut_differently_are_the_same() -> None:
    one = folded(chunk("a"), chunk("b"), chunk("c", finish="length"))
    assert one == folded(chunk("abc"), chunk("", finish="length"))
    assert one != folded(chunk("abd", finish="length"))
    assert one != folded(chunk("abc", finish="stop"))
    assert one != folded(chunk("abc", finish="length"), chunk("", index=1))


def test_choices_of_a_stream_may_interleave() -> None:
    assert folded(chunk("a"), chunk("x", 1), chunk("b")) == folded(chunk("x", 1), chunk("ab"))


def test_rounding_is_no_difference_and_everything_else_is() -> None:
    plain = {"logprob": -1.2345, "n": 1, "a": [1]}
    assert not list(differences(plain, plain | {"logprob": -1.2346}))
    assert list(differences(plain, plain | {"n": True})) == [("n", "1", "True")]
    assert list(differences(plain, plain | {"a": []})) == [("a", "[1]", "[]")]
    assert list(differences(plain, {})) == [
        ("logprob", "-1.2345", "∅"),
        ("n", "1", "∅"),
        ("a", "[1]", "∅"),
    ]


def test_an_explanation_that_explains_nothing_is_stale_once_its_row_has_run() -> None:
    found = [Difference(subject="worker", row="a/b", where="x[0].y", plain="1", found="2")]
    one = Explained(subject="worker", row="a/*", where="x[0].*", reason="meant")
    other = Explained(subject="worker", row="c", where="*", reason="meant")
    pattern = Explained(subject="router", row="*", where="*", reason="meant")
    ran = {("worker", "a/b"), ("worker", "c"), ("router", "a/b")}
    assert one.covers(found[0])
    assert stale([one, other, pattern], found, ran, is_whole=False) == [other]
    assert stale([one, other, pattern], found, ran, is_whole=True) == [other, pattern]
    assert stale([other], found, {("worker", "a/b")}, is_whole=True) == []


@pytest.mark.engine
def test_worker_and_router_answer_as_plain_vllm_does(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "model", TINY)
    asked = Asked(
        rows=table.chosen([], is_short=True),
        clients=(OPENAI,),
        subjects=SUBJECTS,
        is_whole=False,
    )
    _, report = check(asked, folder=tmp_path, tell=print)
    assert report.has_passed, report.markdown()
