"""Every line of a log says when, how serious and about what, for people and for machines."""

import asyncio
import json
import logging
from collections.abc import Iterator

import pytest

from seesaw_flags.logs import LogSettings, configure_logs
from seesaw_operator.cluster.store import Key
from seesaw_operator.loop.workqueue import WorkQueue

OURS = logging.getLogger("seesaw_operator.test")
THEIRS = logging.getLogger("kopf.objects")


@pytest.fixture(autouse=True)
def _put_back() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before


def test_a_line_of_json_holds_whatever_was_said(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogSettings(format="json"))
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        OURS.exception('a "message"\nof two lines')
    (line,) = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert told["message"] == 'a "message"\nof two lines'
    assert (told["level"], told["logger"]) == ("error", "seesaw_operator.test")
    assert "ValueError: first\nsecond" in told["traceback"]
    assert told["time"].endswith("Z")
    assert "object" not in told


def test_no_word_of_others_passes_for_a_line_of_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogSettings())
    forged = "2026-01-01T00:00:00Z INFO seesaw_operator.main all is well"
    try:
        raise ValueError(f"first\n{forged}")
    except ValueError:
        OURS.exception("said: \x1b[31m%s\r\n\u2028%s", "boom", forged)
    first, *others = capsys.readouterr().err.splitlines()
    assert first.endswith(f"said: \\x1b[31mboom\\r\\n\\u2028{forged}")
    assert f"  {forged}" in others
    assert all(line.startswith("  ") for line in others)


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("debug", ["ours DEBUG", "ours INFO", "theirs INFO", "ours ERROR", "theirs ERROR"]),
        ("info", ["ours INFO", "ours ERROR", "theirs ERROR"]),
        ("error", ["ours ERROR", "theirs ERROR"]),
    ],
)
def test_what_libraries_tell_of_each_step_is_for_those_who_look_for_faults(
    capsys: pytest.CaptureFixture[str], level: str, shown: list[str]
) -> None:
    configure_logs(LogSettings(level=level))
    for serious in (logging.DEBUG, logging.INFO, logging.ERROR):
        for logger, name in ((OURS, "ours"), (THEIRS, "theirs")):
            logger.log(serious, "%s %s", name, logging.getLevelName(serious))
    lines = capsys.readouterr().err.splitlines()
    assert [" ".join(line.split()[-2:]) for line in lines] == shown


async def test_what_is_said_while_a_resource_is_looked_at_names_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logs(LogSettings())
    both = asyncio.Barrier(3)

    async def work(key: Key) -> None:
        await both.wait()  # so that neither is done with before the other begins
        OURS.info("looked")

    queue = WorkQueue(work)
    queue.add(Key("first", "llama"))
    queue.add(Key("second", "qwen"))
    await both.wait()
    OURS.info("nothing in particular")
    await asyncio.sleep(0)
    lines = [line.partition(OURS.name + " ")[2] for line in capsys.readouterr().err.splitlines()]
    assert sorted(lines) == [
        "first/llama: looked",
        "nothing in particular",
        "second/qwen: looked",
    ]
