"""Workloads: traces as they are published, and lengths as they are asked for."""

import time
from statistics import mean, median

import pytest

from seesaw_core.errors import InputError
from seesaw_core.planner.workloads import Request, Workload, summarise
from seesaw_sim.draws import Lengths, arriving, draw_requests
from seesaw_sim.traces import read_trace

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
"""


def test_an_azure_trace_is_read_with_the_first_request_at_zero() -> None:
    first, second = read_trace(AZURE, source="azure.csv").requests
    assert (first.prompt_tokens, first.output_tokens, first.arrival_s) == (374, 44, 0.0)
    assert second.arrival_s == pytest.approx(4.314579)


@pytest.mark.parametrize("zone", ["", "+00:00", "Z", "-05:00"])
def test_moments_of_one_zone_are_as_far_apart_with_a_fraction_as_without(
    zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    text = (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        f"2024-03-10 01:59:59.5000000{zone},1,1\n2024-03-10 03:00:00{zone},1,1\n"
    )
    _, second = read_trace(text, source="t.csv").requests
    monkeypatch.undo()
    time.tzset()
    assert second.arrival_s == pytest.approx(3600.5)


def test_a_trace_in_seconds_is_sorted_by_arrival() -> None:
    text = "arrival_s,prompt_tokens,output_tokens\n7.5,10,1\n2.5,20,2\n"
    assert [r.prompt_tokens for r in read_trace(text, source="t.csv").requests] == [20, 10]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("arrival_s,prompt_tokens\n0,1\n", "no column output_tokens"),
        ("arrival_s,prompt_tokens,output_tokens\n0,,1\n", "line 2: prompt_tokens='' must be"),
        ("arrival_s,prompt_tokens,output_tokens\n0,1,1.5\n", "line 2: output_tokens='1.5' must"),
        ("arrival_s,prompt_tokens,output_tokens\n0,1,0\n", "1 requests, all without prompt or"),
        ('{"timestamp": 0, "input_length": 9}\n', "line 1: no field output_tokens"),
        ('{"timestamp": 0, "input_length": 9,\n', "line 1 is not JSON"),
        ("arrival_s,prompt_tokens,output_tokens\nsoon,1,1\n", "line 2: arrival_s='soon' must be"),
        (
            "arrival_s,prompt_tokens,output_tokens\n1e400,1,1\n",
            "'1e400' must be a number from 0 to",
        ),
        ("arrival_s,prompt_tokens,output_tokens\nnan,1,1\n", "'nan' must be a number from 0 to"),
        ("arrival_s,prompt_tokens,output_tokens\n-1,1,1\n", "'-1' must be a number from 0 to"),
        ("arrival_s,prompt_tokens,output_tokens\n0,1e10,1\n", "'1e10' must be a whole number from"),
        ('{"arrival_s": 0, "prompt_tokens": 1, "output_tokens": NaN}\n', "'nan' must be a whole"),
        ("arrival_s,prompt_tokens,output_tokens\n0,1\n", "line 2: output_tokens is missing"),
        ("arrival_s,prompt_tokens,output_tokens\n", "no requests"),
        ("", "the header has nothing"),
    ],
)
def test_a_trace_with_holes_is_refused_naming_line_and_column(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_trace(text, source="t.csv")


def test_a_long_trace_says_how_far_it_has_been_read() -> None:
    heard: list[int] = []
    text = "arrival_s,prompt_tokens,output_tokens\n" + "0,1,1\n" * 25_000
    read_trace(text, source="t.csv", on_rows=heard.append)
    assert heard == [0, 10_000, 20_000]


def test_published_forms_are_told_apart_with_their_units() -> None:
    """Each has a second request 3 s after the first; one row has no output and is left out."""
    burst = (
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\r\n"
        '5,ChatGPT,472,18,490,Conversation log\r\n8,"GPT-4",30.0,0,30,API log\r\n'
        "8,GPT-4,30.0,7,37,API log\r\n"
    )
    mooncake = (
        '{"timestamp": 3000, "input_length": 30, "output_length": 7, "hash_ids": [0]}\n\n'
        '{"timestamp": 0, "input_length": 472, "output_length": 18, "hash_ids": [0, 1]}\n'
    )
    epoch = "timestamp,input_tokens,output_tokens\n1700000000000,472,18\n1700000003000,30,7\n"
    for text, unit in ((burst, "seconds"), (mooncake, "milliseconds"), (epoch, "milliseconds")):
        trace = read_trace("\ufeff" + text, source="t")
        found = [(r.arrival_s, r.prompt_tokens, r.output_tokens) for r in trace.requests]
        assert found == [(0.0, 472, 18), (3.0, 30, 7)]
        assert f"arrival times in {unit}, over 3 s" in trace.notes[0]
    assert (
        "1 requests without prompt or output tokens are left out"
        in (read_trace(burst, source="t").notes[1])
    )
    forced = read_trace(epoch.replace("17000000", ""), source="t", time_unit="ms")
    assert forced.requests[1].arrival_s == 3.0


def test_lengths_have_the_median_and_the_percentile_asked_for() -> None:
    from random import Random

    drawn = sorted(Lengths(median=7059, p90=12985).draw(20_000, Random(1)))
    assert median(drawn) == pytest.approx(7059, rel=0.03)
    assert drawn[18_000] == pytest.approx(12985, rel=0.04)


def test_lengths_around_a_mean_have_that_mean_whatever_the_spread() -> None:
    requests = draw_requests(
        20_000, prompts=Lengths.around(1000, spread=0.7), outputs=Lengths.around(200)
    )
    assert mean(r.prompt_tokens for r in requests) == pytest.approx(1000, rel=0.03)
    assert {r.output_tokens for r in requests} == {200}


def test_requests_never_exceed_the_longest_allowed() -> None:
    requests = draw_requests(
        500,
        prompts=Lengths.around(900, spread=1),
        outputs=Lengths.around(300, spread=1),
        longest=1024,
    )
    assert max(r.prompt_tokens + r.output_tokens for r in requests) <= 1024


def test_random_arrivals_keep_their_rate_and_their_seed() -> None:
    requests = [Request(prompt_tokens=1, output_tokens=1)] * 5000
    one, again = (arriving(requests, per_s=10.0, seed=3) for _ in range(2))
    assert one == again
    assert one[-1].arrival_s == pytest.approx(500, rel=0.05)
    with pytest.raises(InputError, match="above 0"):
        arriving(requests, per_s=0.0)


def test_a_summary_knows_means_and_extremes() -> None:
    found = summarise(
        [Request(prompt_tokens=10, output_tokens=2), Request(prompt_tokens=30, output_tokens=4)]
    )
    assert (found.prompt_tokens, found.output_tokens) == (20, 3)
    assert (found.prompt_squares, found.longest_tokens) == (500, 34)
    with pytest.raises(InputError, match="no requests"):
        summarise([])
    with pytest.raises(InputError, match="concurrency=0 must be above 0"):
        Workload(prompt_tokens=1, output_tokens=1, concurrency=0)
