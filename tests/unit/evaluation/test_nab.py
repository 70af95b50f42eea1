"""The benchmark's score: its ends, its best threshold, and what was published for a detector."""

from __future__ import annotations

import gzip
import math
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
        windows += sum(one.counted[first : last + 1].any() for first, last in spans(one.window))
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
                    total += profile.false_alarm * (-1.0 if away >= 3.0 else sigmoid(away))
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


@pytest.mark.skipif(not DATA.exists(), reason=f"{DATA} is not there")
def test_the_published_score_of_a_detector_comes_out() -> None:
    with gzip.open(DATA) as file:
        table = pyarrow.csv.read_csv(file)
    key, value, label, probation = (
        np.array(table[name].to_pylist()) for name in ("key", "value", "label", "probation")
    )
    made: list[Series] = []
    for name in np.unique(key):
        rows = key == name
        inside: Bool = label[rows] == 1
        made.append(Series(windowed_gaussian(value[rows].astype(float)), inside, probation[rows] == 0))
    assert nab_score(made, STANDARD) == pytest.approx(39.65, abs=0.5)
    assert nab_score(made, FEW_FALSE_ALARMS) == pytest.approx(20.87, abs=0.5)
    assert nab_score(made, FEW_MISSES) == pytest.approx(47.41, abs=0.5)
