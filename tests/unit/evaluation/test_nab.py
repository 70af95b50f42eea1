"""The benchmark's score: its ends, its best threshold, and what was published for two detectors."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.csv
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_ad.batch import F64, Bool
from stream_ad.evaluation.nab import FEW_FALSE_ALARMS, FEW_MISSES, STANDARD, Profile, Series, nab_score
from stream_ad.evaluation.ranking import spans

DATA = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "ts_nab.csv.gz"


def series(score: F64, *windows: tuple[int, int], probation: int = 0) -> Series:
    window = np.zeros(len(score), bool)
    for first, last in windows:
        window[first : last + 1] = True
    return Series(score, window, np.arange(len(score)) >= probation)


def test_the_first_row_of_every_window_and_nothing_else_scores_100() -> None:
    score = np.zeros(100)
    score[[20, 60]] = 1.0
    assert nab_score([series(score, (20, 29), (60, 69))]) == pytest.approx(100.0)


def test_a_detector_that_cannot_be_used_at_any_threshold_scores_0() -> None:
    score = np.ones(100)
    score[20:30] = 0.0
    assert nab_score([series(score, (20, 29))]) == 0.0
    assert math.isnan(nab_score([series(score)]))


def test_a_hit_late_in_the_window_is_worth_less_and_the_probation_nothing() -> None:
    def hit(row: int, probation: int = 0) -> float:
        score = np.zeros(100)
        score[row] = 1.0
        return nab_score([series(score, (20, 29), probation=probation)])

    assert hit(20) > hit(25) > hit(29) > 50.0
    assert hit(20, probation=25) == 0.0


def slow(all_series: list[Series], profile: Profile) -> float:
    best, windows = -math.inf, 0
    for one in all_series:
        windows += sum(bool(one.counted[first : last + 1].any()) for first, last in spans(one.window))
    for cut in [math.inf, *sorted({float(score) for one in all_series for score in one.score[one.counted]})]:
        total = 0.0
        for one in all_series:
            flagged = (one.score >= cut) & one.counted
            runs = [(int(first), int(last)) for first, last in spans(one.window)]
            for first, last in runs:
                rows = np.flatnonzero(flagged[first : last + 1])
                if not one.counted[first : last + 1].any():
                    continue
                if not len(rows):
                    total -= profile.miss
                else:
                    position = -(last - first - rows[0] + 1) / (last - first + 1)
                    total += profile.hit * sigmoid(position) / sigmoid(-1.0)
            for row in np.flatnonzero(flagged & ~one.window):
                ahead = [(first, last) for first, last in runs if last < row]
                if not ahead:
                    total -= profile.false_alarm
                else:
                    first, last = ahead[-1]
                    away = (row - last) / max(last - first, 1)
                    total += profile.false_alarm * (-1.0 if away > 3.0 else sigmoid(away))
        best = max(best, total)
    return 100 * (best + profile.miss * windows) / ((profile.hit + profile.miss) * windows)


def sigmoid(position: float) -> float:
    return 2 / (1 + math.exp(5 * position)) - 1


@given(seed=st.integers(0, 10_000), profile=st.sampled_from([STANDARD, FEW_FALSE_ALARMS, FEW_MISSES]))
def test_the_best_threshold_for_all_series_is_taken(seed: int, profile: Profile) -> None:
    random = np.random.default_rng(seed)
    made = []
    for _ in range(3):
        first = int(random.integers(6, 25))
        score = np.round(random.normal(size=40), 1)
        made.append(series(score, (first, first + 4), (first + 8, first + 9), probation=5))
    assert nab_score(made, profile) == pytest.approx(slow(made, profile))


def windowed_gaussian(values: F64) -> F64:
    """The benchmark's detector of that name: two-sided tail probability of the last 6,400 values, moved by 100."""
    n = len(values)
    row = np.arange(n)
    last = np.where(row <= 6400, row, 6400 + (row - 6400) // 100 * 100)
    first = np.maximum(last - 6400, 0)
    count = np.maximum(last - first, 1)
    one, two = (np.append(0.0, np.cumsum((values - values[0]) ** power)) for power in (1, 2))
    mean = (one[last] - one[first]) / count
    std = np.sqrt(np.maximum((two[last] - two[first]) / count - mean**2, 0.0))
    deviation = np.abs(values - values[0] - mean) / np.where(std > 0, std, 1e-6)
    tail = np.array([0.5 * math.erfc(one / math.sqrt(2)) for one in deviation])
    score = np.round(1.0 - tail, 12)  # the published scores have so many digits
    score[0] = 0.0
    return score


def relative_entropy(values: F64) -> F64:
    """The benchmark's detector of that name (Wang et al., IM 2011): 1 where the last 52 values lie as never before.

    Counted is how many of them lie in each of five bins over the range of the whole series, which a detector that sees
    the values one by one cannot know. A window that agrees with none of those held is held from then on.
    """
    width = np.ptp(values) / 5 or 1.0
    # the benchmark rounds up: the first bin has the least value and no other, the last is twice as wide as the rest
    place = np.minimum(np.ceil((values - values.min()) / width), 4)
    until = np.cumsum(np.vstack([np.zeros(5), place[:, None] == np.arange(5)]), axis=0)
    count = until[52:] - until[:-52]
    score = np.zeros(len(values))
    left = np.arange(len(count))
    while len(left):
        held = left[0]
        score[held + 51] = 1.0
        left = left[~agree(count[left], count[held])]
    score[:52] = 0.0  # the first window is held with nothing to compare it with
    return score


def agree(count: F64, held: F64) -> Bool:
    """[n] whether counts [n, bins] may be of the spread held [bins]: the likelihood ratio's test at 1 %."""
    ratio: F64 = 2 * np.sum(count * np.log(np.maximum(count, 1) / np.maximum(held, 1)), axis=1)
    ratio[(count[:, held == 0] > 0).any(axis=1)] = np.inf
    return ratio < 13.276704135987622  # chi-squared with 4 degrees of freedom


@pytest.fixture(scope="module")
def corpus() -> list[tuple[F64, Bool, Bool]]:
    """Of each series its values, which rows are in a window, and which are after the probation."""
    with gzip.open(DATA) as file:
        table = pyarrow.csv.read_csv(file)
    key, value, label, probation = (
        np.array(table[name].to_pylist()) for name in ("key", "value", "label", "probation")
    )
    each = [key == name for name in np.unique(key)]
    return [(value[rows].astype(float), label[rows] == 1, probation[rows] == 0) for rows in each]


@pytest.mark.skipif(not DATA.exists(), reason=f"{DATA} is not there")
@pytest.mark.parametrize(
    ("detector", "published"),  # the benchmark's results/final_results.json: standard, reward_low_FP_rate, _FN_rate
    [
        pytest.param(windowed_gaussian, [39.6495235, 20.8679858, 47.4100272], id="windowed_gaussian"),
        pytest.param(relative_entropy, [54.6427489, 47.5983518, 58.8422924], id="relative_entropy"),
    ],
)
def test_the_published_scores_of_a_detector_come_out(
    detector: Callable[[F64], F64], published: list[float], corpus: list[tuple[F64, Bool, Bool]]
) -> None:
    made = [Series(detector(values), window, counted) for values, window, counted in corpus]
    scores = [nab_score(made, profile) for profile in (STANDARD, FEW_FALSE_ALARMS, FEW_MISSES)]
    assert scores == pytest.approx(published, abs=1e-6)
