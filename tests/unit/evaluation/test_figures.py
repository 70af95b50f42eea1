"""The figures of small streams, counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stream_ad.evaluation.figures import DAY_MS, SERIES, Figures, figures
from stream_ad.evaluation.labelled import Answers, Labelled


def answers(label: str, flag: str, key: str = "", counted: str = "", score: str = "") -> Answers:
    """A digit per row; rows are an hour apart."""
    n = len(label)

    def column(text: str, default: str) -> np.ndarray:
        return np.array([int(digit) for digit in text or default * n])

    rows = Labelled(column(key, "0"), np.arange(n) * 3_600_000, column(label, "0") > 0, column(counted, "1") > 0)
    return Answers.of(rows, column(score, "5").astype(float), column(flag, "0") > 0)


def test_flags_are_counted_where_rows_count() -> None:
    f = figures(answers(label="0011110000", flag="1001100010", counted="0111111111"))
    assert (f.rows, f.labelled, f.flagged) == (9, 4, 3)
    assert (f.precision, f.recall) == (pytest.approx(2 / 3), 0.5)
    assert f.f1 == pytest.approx(2 * 2 / (3 + 4))
    assert f.false_alarm_rate == pytest.approx(1 / 5)
    assert f.false_alarms_per_day == pytest.approx(1 / (8 * 3_600_000 / DAY_MS))


def test_an_event_is_a_run_of_labelled_rows_of_one_key() -> None:
    f = figures(answers(label="11110011", flag="00010000", key="01010101"))
    assert f.events == 4
    assert f.event_recall == 0.25
    assert (f.delay_rows, f.delay_s) == (1.0, 7200.0)
    assert f.worst_key_share != f.worst_key_share


def test_the_share_of_the_key_with_most_false_alarms() -> None:
    assert figures(answers(label="0000", flag="1110", key="0110")).worst_key_share == pytest.approx(2 / 3)


def test_rows_without_a_verdict_rank_last_and_have_no_flag() -> None:
    rows = Labelled(np.zeros(3, int), np.arange(3), np.array([True, False, False]), np.ones(3, bool))
    made = Answers.of(rows, np.array([np.nan, -2.0, 1.0]), np.ones(3, bool))
    assert made.score.tolist() == [-2.0, -2.0, 1.0]
    assert made.flag.tolist() == [False, True, True]


def test_each_series_may_be_ranked_by_itself() -> None:
    f = figures(answers(label="0101", flag="0000", key="0011", score="1256"))
    assert f.key_roc_auc == 1.0
    assert f.roc_auc == 0.75


def test_what_does_not_exist_is_nan() -> None:
    f = figures(answers(label="0000", flag="0000"))
    for name in ("roc_auc", "average_precision", "vus_pr", "nab", "precision", "recall", "event_recall", "delay_rows"):
        assert math.isnan(getattr(f, name)), name
    many = Labelled(
        np.arange(SERIES + 1), np.arange(SERIES + 1), np.arange(SERIES + 1) % 2 > 0, np.ones(SERIES + 1, bool)
    )
    assert math.isnan(figures(Answers.of(many, np.zeros(SERIES + 1), np.zeros(SERIES + 1, bool))).vus_pr)


def interval_of(rows: int) -> Figures:
    random = np.random.default_rng(1)
    label = random.random(rows) < 0.2
    known = Labelled(np.zeros(rows, int), np.arange(rows), label, np.ones(rows, bool))
    return figures(Answers.of(known, random.normal(size=rows) + label, np.zeros(rows, bool)))


def test_an_interval_holds_the_figure_and_narrows_with_more_rows() -> None:
    few, many = interval_of(500), interval_of(50_000)
    for f in (few, many):
        assert f.roc_auc_interval[0] < f.roc_auc < f.roc_auc_interval[1]
        assert f.average_precision_interval[0] < f.average_precision < f.average_precision_interval[1]
    assert np.diff(many.roc_auc_interval) < np.diff(few.roc_auc_interval) / 3
