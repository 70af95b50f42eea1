"""Areas and volumes agree with their definitions, computed the slow way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ad.batch import F64, Bool
from stream_ad.evaluation.ranking import THRESHOLDS, Ranking, spans, vus_pr

ROWS = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=40)


def columns(rows: list[tuple[int, bool]]) -> tuple[F64, Bool]:
    return np.array([score for score, _ in rows], float), np.array([label for _, label in rows], bool)


@given(rows=ROWS)
def test_the_areas_are_what_their_definitions_say(rows: list[tuple[int, bool]]) -> None:
    score, label = columns(rows)
    roc_auc, average_precision = Ranking.of(score, label).areas()
    positive, negative = score[label], score[~label]
    if not len(positive) or not len(negative):
        assert math.isnan(roc_auc)
        assert math.isnan(average_precision)
        return
    pairs = (positive[:, None] > negative).mean() + (positive[:, None] == negative).mean() / 2
    assert roc_auc == pytest.approx(pairs)
    expected, known = 0.0, 0
    for cut in sorted(set(score), reverse=True):
        true = int((label & (score >= cut)).sum())
        expected += (true - known) / len(positive) * true / int((score >= cut).sum())
        known = true
    assert average_precision == pytest.approx(expected)


@given(rows=ROWS, seed=st.integers(0, 99))
def test_a_weight_counts_a_row_so_many_times(rows: list[tuple[int, bool]], seed: int) -> None:
    score, label = columns(rows)
    times = np.random.default_rng(seed).integers(0, 3, len(score))
    repeated = np.repeat(np.arange(len(score)), times)
    expected = Ranking.of(score[repeated], label[repeated]).areas() if len(repeated) else (math.nan, math.nan)
    assert Ranking.of(score, label).areas(times.astype(float)) == pytest.approx(expected, nan_ok=True)


@given(rows=ROWS)
def test_spans_are_the_runs_of_labelled_rows(rows: list[tuple[int, bool]]) -> None:
    _, label = columns(rows)
    within = np.zeros(len(label), bool)
    for first, last in spans(label):
        within[first : last + 1] = True
        assert first == 0 or not label[first - 1]
        assert last == len(label) - 1 or not label[last + 1]
    assert np.array_equal(within, label)


def slow_volume(score: F64, label: Bool, widest: int) -> float:
    """Loops over buffers, cuts and rows."""
    n, areas = len(score), []
    falling = sorted(score, reverse=True)
    cuts = [falling[int(at)] for at in np.linspace(0, n - 1, THRESHOLDS)]
    runs = [(int(first), int(last)) for first, last in spans(label)]
    for buffer in range(widest + 1):
        soft = label.astype(float)
        half = buffer // 2
        for first, last in runs:
            for row in range(max(first - half, 0), min(last + half, n - 1) + 1):
                away = max(first - row, row - last, 0)
                if away:
                    soft[row] += math.sqrt(1 - away / buffer)
        soft = np.minimum(soft, 1.0)
        merged: list[list[int]] = []
        for first, last in runs:
            if merged and merged[-1][1] >= first - half:
                merged[-1][1] = last + half
            else:
                merged.append([max(first - half, 0), last + half])
        area, before = 0.0, 0.0
        for cut in cuts:
            flagged = score >= cut
            true = float(soft[flagged].sum())
            positives = (label.sum() + soft[flagged | label].sum()) / 2
            seen = sum(flagged[first : last + 1].any() for first, last in merged) / len(merged)
            recall = min(true / positives, 1.0) * seen
            area += (recall - before) * true / flagged.sum()
            before = recall
        areas.append(area)
    return float(np.mean(areas))


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), widest=st.integers(0, 12), distinct=st.booleans())
def test_the_volume_is_the_mean_area_over_all_buffers(seed: int, widest: int, distinct: bool) -> None:
    random = np.random.default_rng(seed)
    label = np.zeros(60, bool)
    for first in random.integers(0, 60, 3):
        label[first : first + random.integers(1, 8)] = True
    score = random.normal(size=60) + label
    score = score if distinct else np.round(score)
    assert vus_pr(score, label, widest) == pytest.approx(slow_volume(score, label, widest))


def test_a_perfect_score_has_a_volume_near_one_and_none_without_events() -> None:
    label = np.zeros(2000, bool)
    label[500:600] = label[1500:1600] = True
    assert vus_pr(label.astype(float), label) > 0.8
    assert vus_pr(1.0 - label, label) < 0.15
    assert math.isnan(vus_pr(np.zeros(9), np.zeros(9, bool)))
