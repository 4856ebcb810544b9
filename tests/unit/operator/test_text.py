"""What others say becomes one bounded line that keeps what matters of it."""

import pytest

from seesaw_operator.text import one_line, shortened, shortened_bytes


@pytest.mark.parametrize(
    ("said", "told"),
    [
        pytest.param("plain, naïve 🚀", "plain, naïve 🚀", id="what is harmless stays"),
        pytest.param("one\ntwo\r\n\n  three\n", "one · two · three", id="lines"),
        pytest.param("a\u2028b\x85c\vd", "a · b · c · d", id="other breaks"),
        pytest.param("\x1b[1;31mred\x1b[0m \x1b]8;;http://x\x07link", "red link", id="colours"),
        pytest.param("1 %\r99 %\rdone", "1 % · 99 % · done", id="a bar of progress"),
        pytest.param("a\0\x07b \u202egnp.exe\ud800", "a b gnp.exe", id="what cannot be seen"),
    ],
)
def test_whatever_is_said_is_told_in_one_line(said: str, told: str) -> None:
    assert one_line(said) == told


def test_a_long_text_keeps_both_of_its_ends() -> None:
    said = f'volumeMounts[0].name: Not found: "{"n" * 40_000}": must be a volume'
    told = shortened(said, 200)
    assert len(told) == 200
    assert told.startswith("volumeMounts[0].name: Not found")
    assert told.endswith("must be a volume")
    assert shortened("short", 200) == "short"


@pytest.mark.parametrize("character", ["a", "é", "中", "🚀"])
@pytest.mark.parametrize("count", [100, 341, 342, 1024, 1025, 5000])
def test_a_bound_of_bytes_holds_for_every_script_and_breaks_no_character(
    character: str, count: int
) -> None:
    said = character * count
    told = shortened_bytes(said, 1024)
    assert len(told.encode()) <= 1024
    assert set(told) <= {character, " ", "…"}
    assert (told == said) == (len(said.encode()) <= 1024)
    assert len(told) >= min(count, 250)


@pytest.mark.parametrize("part", [" ", "\t", "\0 ", "\x1b]", "\n"])
def test_a_hostile_text_takes_no_longer_than_a_harmless_one(part: str) -> None:
    """A pattern that tries again from each character would not come to an end here."""
    assert len(one_line("a" + part * 1_000_000 + "b")) < 10_000
