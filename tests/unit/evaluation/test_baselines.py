"""Baselines are what they say, and learn nothing from later values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_ad.evaluation import baselines
from stream_ad.evaluation.figures import figures
from stream_ad.evaluation.labelled import Labelled


def stream(n: int, keys: int = 3, share: float = 0.1) -> Labelled:
    random = np.random.default_rng(0)
    return Labelled(random.integers(0, keys, n), np.arange(n), random.random(n) < share, np.ones(n, bool))


def test_chance_ranks_like_chance_and_always_finds_all() -> None:
    rows = stream(20_000)
    chance, always = figures(baselines.random(rows)), figures(baselines.always(rows))
    assert chance.roc_auc == pytest.approx(0.5, abs=0.03)
    assert chance.average_precision == pytest.approx(rows.label.mean(), abs=0.02)
    assert always.roc_auc == 0.5
    assert (always.recall, always.precision) == (1.0, pytest.approx(rows.label.mean()))


@pytest.mark.parametrize("detector", [baselines.squared_difference, baselines.variance_ratio])
def test_a_jump_of_one_field_of_one_key_stands_out(detector) -> None:  # type: ignore[no-untyped-def]
    rows = stream(3000)
    values = np.random.default_rng(1).normal(1e9, 1.0, (3000, 2))
    values[2500, 1] += 40.0
    values[100, 0] = np.nan
    assert int(np.argmax(detector(rows, values).score)) == 2500


@given(cut=st.integers(1, 299), seed=st.integers(0, 99))
def test_a_score_does_not_depend_on_later_rows(cut: int, seed: int) -> None:
    rows, values = stream(300), np.random.default_rng(seed).normal(size=(300, 2))
    for detector in (baselines.squared_difference, baselines.variance_ratio):
        expected = detector(rows, values).score[:cut]
        head = detector(rows.take(np.arange(cut)), values[:cut]).score
        assert head == pytest.approx(expected)
