"""Trace files that are something else, and how far a long one has been read."""

import bz2
import gzip
import lzma
from pathlib import Path

import pytest

from seesaw_cli.planner_flags.trace_files import ReadingProgress, read_trace_file
from seesaw_core.errors import InputError

TRACE = "arrival_s,prompt_tokens,output_tokens\n0,1,1\n"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (TRACE.encode("utf-16"), "is text in UTF-16; save it as UTF-8"),
        (bz2.compress(TRACE.encode()), "is compressed with bzip2; decompress it"),
        (lzma.compress(TRACE.encode()), "is compressed with xz; decompress it"),
        (TRACE.encode() + b"\xff", f"is not text in UTF-8 (byte {len(TRACE)})"),
        (gzip.compress(TRACE.encode())[:-9], "end-of-stream"),
    ],
    ids=["utf-16", "bzip2", "xz", "noise", "cut short"],
)
def test_a_trace_in_another_form_is_told_by_its_name(
    content: bytes, says: str, tmp_path: Path
) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_bytes(content)
    with pytest.raises(InputError) as refused:
        read_trace_file(trace, time_unit="auto")
    assert str(refused.value).startswith(f"--trace={trace}: ")
    assert says in str(refused.value)


def test_whoever_waits_for_a_long_trace_is_told_every_few_seconds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now_s = [0.0]
    progress = ReadingProgress("--trace=t.csv", clock=lambda: now_s[0])
    for second in range(6):
        now_s[0] = second
        progress(second * 10_000)
    lines = [f"seesaw: --trace=t.csv: {rows} rows read" for rows in ("20,000", "40,000")]
    assert capsys.readouterr().err.splitlines() == lines
