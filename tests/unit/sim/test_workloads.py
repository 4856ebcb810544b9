"""Workloads: traces as they are published, and lengths as they are asked for."""

import time
from statistics import mean, median

import pytest

from seesaw_core.errors import InputError
from seesaw_core.workloads import Request, Workload, summarise
from seesaw_sim.draws import Lengths, arriving, draw_requests
from seesaw_sim.traces import read_trace

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
"""


def test_an_azure_trace_is_read_with_the_first_request_at_zero() -> None:
    first, second = read_trace(AZURE, source="azure.csv")
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
    _, second = read_trace(text, source="t.csv")
    monkeypatch.undo()
    time.tzset()
    assert second.arrival_s == pytest.approx(3600.5)


def test_a_trace_in_seconds_is_sorted_by_arrival() -> None:
    text = "arrival_s,prompt_tokens,output_tokens\n7.5,10,1\n2.5,20,2\n"
    assert [r.prompt_tokens for r in read_trace(text, source="t.csv")] == [20, 10]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("arrival_s,prompt_tokens\n0,1\n", "no column output_tokens"),
        ("arrival_s,prompt_tokens,output_tokens\n0,,1\n", "line 2: prompt_tokens='' must be"),
        ("arrival_s,prompt_tokens,output_tokens\n0,1,0\n", "line 2: output_tokens='0' must be"),
        ("arrival_s,prompt_tokens,output_tokens\nsoon,1,1\n", "line 2: arrival_s='soon' must be"),
        ("arrival_s,prompt_tokens,output_tokens\n0,1\n", "line 2: output_tokens is missing"),
        ("arrival_s,prompt_tokens,output_tokens\n", "no requests after the header"),
        ("", "the header has nothing"),
    ],
)
def test_a_trace_with_holes_is_refused_naming_line_and_column(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_trace(text, source="t.csv")


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
