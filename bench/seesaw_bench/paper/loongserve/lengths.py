"""Lengths of the requests in LoongServe's evaluation, drawn from published statistics.

Lots are stratified: n requests take the n middle quantiles of a distribution in a random order, so
that runs of a few hundred requests do not hang on a few long prompts.

Source: ShareGPT, the 1,000 requests that the artefact's notebook prints with their lengths.
L-Eval, its repository's tasks, at 4.2 characters a token; codeU and narrative_qa, whose files are
too large to be stored there, by the table of its paper (arXiv 2307.11088). LV-Eval, five levels of
16,000 to 256,000 words at 1.28 tokens a word, the ratio of LoongServe's 15.1K to 497.3K tokens to
the words that LV-Eval states; answers of a few words. Mixed and Zipf, the artefact's scripts.
"""

from bisect import bisect
from collections.abc import Callable
from itertools import accumulate, pairwise
from math import exp, log
from random import Random

Lengths = list[tuple[int, int]]  # prompt and output tokens of each request
_Curve = tuple[tuple[float, float], ...]  # (share of the requests, at most so many tokens)

_CHARACTERS_PER_TOKEN = 4.2
_SHAREGPT_PROMPTS: _Curve = (
    (0, 6), (0.05, 29), (0.1, 143), (0.25, 398), (0.5, 822),
    (0.75, 1350), (0.9, 1830), (0.95, 2038), (0.99, 2204), (1, 2238),
)  # fmt: skip
_SHAREGPT_OUTPUTS: _Curve = (
    (0, 4), (0.05, 7), (0.1, 11), (0.25, 22), (0.5, 137),
    (0.75, 385), (0.9, 606), (0.95, 769), (0.99, 979), (1, 993),
)  # fmt: skip
# Of each task of L-Eval: its questions; least, median and most characters of a prompt; least,
# median and most of an answer.
_L_EVAL = (
    (172, (23493, 34760, 72036), (1, 1, 4)),  # coursera
    (100, (16918, 17047, 17376), (1, 2, 5)),  # gsm100
    (202, (12700, 27194, 29592), (5, 66, 181)),  # quality
    (64, (20756, 62546, 101555), (17, 18, 19)),  # sci_fi
    (150, (40757, 69289, 72222), (26, 38, 53)),  # topic_retrieval_longchat
    (269, (15348, 16576, 17868), (1, 1, 1)),  # tpo
    (68, (22065, 22978, 31521), (54, 369, 996)),  # financial_qa
    (14, (13515, 22874, 87698), (970, 1817, 2538)),  # gov_report_summ
    (154, (32495, 84638, 272274), (44, 325, 2332)),  # legal_contract_qa
    (177, (15635, 51306, 120352), (132, 344, 769)),  # meeting_summ
    (158, (12341, 14389, 33054), (15, 109, 285)),  # multidoc_qa
    (109, (22955, 70656, 140164), (2, 15, 276)),  # natural_question
    (12, (12823, 18522, 80507), (1124, 1625, 1988)),  # news_summ
    (69, (19327, 28751, 87698), (630, 1764, 3583)),  # paper_assistant
    (14, (12568, 23375, 51021), (236, 720, 1338)),  # patent_summ
    (144, (72974, 79712, 90780), (125, 471, 1567)),  # review_summ
    (184, (11961, 18097, 28936), (2, 62, 579)),  # scientific_qa
    (14, (19425, 33342, 45406), (283, 601, 1178)),  # tv_show_summ
    (90, (113_400, 132_615, 153_338), (4, 20, 80)),  # codeU: 31,575 tokens in the mean
    (182, (63_000, 218_000, 884_272), (4, 30, 120)),  # narrative_qa: 62,335 in the mean
)
_LV_EVAL_WORDS = (16_000, 32_000, 64_000, 128_000, 256_000)
_TOKENS_PER_WORD = 1.28
# Of a level's words; 1.5 times 256,000 are the most that LV-Eval states.
_LV_EVAL_SPREAD: _Curve = ((0, 0.75), (0.98, 1.18), (1, 1.52))
_LV_EVAL_OUTPUTS: _Curve = ((0, 2), (0.5, 13), (0.9, 33), (1, 80))
_ZIPF_LENGTHS = range(10, 200_000)
_SHAREGPT_LONGEST, _LV_EVAL_SHORTEST = 2_300, 15_000
_MIXED_LEAST_PROMPT, _MIXED_LEAST_OUTPUT = 16, 4
_LV_EVAL_SHARE = 0.7  # 4,115 of LV-Eval's requests to some 2,000 of L-Eval's


def sharegpt(count: int, random: Random) -> Lengths:
    prompts = _deck(count, random, lambda share: _at(_SHAREGPT_PROMPTS, share))
    outputs = _deck(count, random, lambda share: _at(_SHAREGPT_OUTPUTS, share))
    return list(zip(prompts, outputs, strict=True))


def l_eval(count: int, random: Random) -> Lengths:
    ends = [*accumulate(questions for questions, _, _ in _L_EVAL)]
    requests = []
    for share in _shares(count, random):
        at = share * ends[-1]
        index = min(bisect(ends, at), len(ends) - 1)
        questions, prompts, outputs = _L_EVAL[index]
        within = 1 - (ends[index] - at) / questions
        requests.append((_characters(prompts, within), _characters(outputs, random.random())))
    return requests


def lv_eval(count: int, random: Random) -> Lengths:
    requests = []
    for share in _shares(count, random):
        level = share * len(_LV_EVAL_WORDS)
        words = _LV_EVAL_WORDS[int(level)] * _at(_LV_EVAL_SPREAD, level % 1)
        output = round(_at(_LV_EVAL_OUTPUTS, random.random()))
        requests.append((round(words * _TOKENS_PER_WORD), output))
    return requests


def mixed(count: int, random: Random) -> Lengths:
    """A third of each dataset, without what the artefact leaves out when it mixes them."""
    third = -(-count // 3)
    requests = [
        request
        for draw in (sharegpt, l_eval, lv_eval)
        for request in _long_enough(draw, third, random)
    ]
    random.shuffle(requests)
    return requests[:count]


def _long_enough(draw: Callable[[int, Random], Lengths], count: int, random: Random) -> Lengths:
    drawn = count
    while True:
        requests = [
            (prompt, output)
            for prompt, output in draw(drawn, random)
            if prompt >= _MIXED_LEAST_PROMPT and output >= _MIXED_LEAST_OUTPUT
        ]
        if len(requests) >= count:
            return requests[:count]
        drawn += count - len(requests)


def zipf(alpha: float) -> Callable[[int, Random], Lengths]:
    """Return a draw of prompts by Zipf's law, with the outputs of the dataset of such prompts."""

    def draw(count: int, random: Random) -> Lengths:
        weights = [*accumulate(length**-alpha for length in _ZIPF_LENGTHS)]
        prompts = [
            _ZIPF_LENGTHS[min(bisect(weights, share * weights[-1]), len(weights) - 1)]
            for share in _shares(count, random)
        ]
        return [(prompt, _output_of(prompt, random)) for prompt in prompts]

    return draw


def _output_of(prompt: int, random: Random) -> int:
    if prompt < _SHAREGPT_LONGEST:
        return round(_at(_SHAREGPT_OUTPUTS, random.random()))
    if prompt > _LV_EVAL_SHORTEST and random.random() < _LV_EVAL_SHARE:
        return round(_at(_LV_EVAL_OUTPUTS, random.random()))
    near = [
        outputs
        for _, prompts, outputs in _L_EVAL
        if prompts[0] <= prompt * _CHARACTERS_PER_TOKEN <= prompts[-1]
    ]
    return _characters(random.choice(near or [(4, 30, 120)]), random.random())


def _characters(curve: tuple[int, int, int], share: float) -> int:
    """Tokens at a share of the requests of a task, whose lengths are even on a log scale."""
    least, median, most = (log(value) for value in curve)
    low, high = (least, median) if share < 0.5 else (median, most)
    characters = exp(low + (high - low) * (2 * share % 1))
    return max(1, round(characters / _CHARACTERS_PER_TOKEN))


def _deck(count: int, random: Random, value: Callable[[float], float]) -> list[int]:
    return [max(1, round(value(share))) for share in _shares(count, random)]


def _shares(count: int, random: Random) -> list[float]:
    shares = [(number + 0.5) / count for number in range(count)]
    random.shuffle(shares)
    return shares


def _at(curve: _Curve, share: float) -> float:
    for (begin, low), (end, high) in pairwise(curve):
        if share <= end:
            return low + (high - low) * (share - begin) / (end - begin)
    return curve[-1][1]
