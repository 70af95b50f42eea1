"""The compiled loops of the statistical scorer against numpy, a row at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from stream_ad import config
from stream_ad.batch import F32
from stream_ad.config.features import FeatureSpec
from stream_ad.score.deviation_kernel import CLIP, MIN_LAGS, comparators
from stream_ad.score.reconstruction.kernels import BLOCK_ROWS
from stream_ad.score.statistical import Statistical

W = 7
SPEC = FeatureSpec.of(
    config.parse(
        {
            "window": {"rows": W},
            "features": {
                "event": [],
                "numeric": {"a": ["raw", "zscore"], "b": ["zscore"]},
                "categorical": {"c": ["novelty"]},
            },
        }
    )
)
KINDS = [feature.kind for feature in SPEC.features]
ABSENT = st.just(float("nan"))


@pytest.mark.parametrize("w", [1, 2, 5, 16, 33])
def test_comparators_sort(w):
    values = np.random.default_rng(w).normal(size=(w, 20)).astype(np.float32)
    for a, b in comparators(w):
        values[[a, b]] = np.sort(values[[a, b]], axis=0)
    assert (np.diff(values, axis=0) >= 0).all()


@settings(max_examples=60)
@given(
    values=arrays.arrays(
        np.float32, (3, W), elements=ABSENT | st.integers(-10_000, 10_000).map(lambda tenths: tenths / 8)
    ),
    levels=arrays.arrays(np.float32, (3, W), elements=ABSENT | st.floats(-50, 50, width=32)),
    new=arrays.arrays(np.float32, (3, W), elements=ABSENT | st.sampled_from([0.0, 1.0])),
)
def test_a_deviation_is_what_its_formula_says(values, levels, new):
    x = np.stack([{"raw": values, "zscore": levels, "novelty": new}[kind] for kind in KINDS], axis=2)
    parts = Statistical(SPEC)._parts(x)
    for row in range(3):
        for j, kind in enumerate(KINDS):
            found, expected = parts.deviation[j, row], parts.expected[j, row]
            value, past = x[row, -1, j], x[row, :-1, j][~np.isnan(x[row, :-1, j])].astype(np.float64)
            if kind == "zscore":
                assert found == pytest.approx(np.clip(value, -CLIP, CLIP), nan_ok=True)
                assert expected == 0.0
            elif kind == "raw":
                assert expected == pytest.approx(
                    np.median(past) if len(past) else np.nan_to_num(value), rel=1e-5, abs=1e-3
                )
                assert found == pytest.approx(deviate(value, past), rel=1e-3, abs=1e-3, nan_ok=True)
            else:
                usual = (past.sum() + 2) / (len(past) + 2)
                deviation = (
                    -torch.special.ndtri(torch.tensor(usual / 2, dtype=torch.float64)).item() if value > usual else 0.0
                )
                assert expected == pytest.approx(usual)
                assert found == pytest.approx(np.nan if np.isnan(value) else deviation, abs=1e-9, nan_ok=True)


def deviate(value: float, past: F32) -> float:
    """In the scorer's words, in double precision."""
    if len(past) < MIN_LAGS or np.isnan(value):
        return np.nan
    median = np.float64(np.float32(np.median(past)))
    away = np.abs(past - median)
    spread = 0.5 * 1.4826 * np.median(away) + 0.5 * 1.2533 * away.mean()
    still = spread <= 1e-6 * abs(median)
    if still:
        spread = 0.05 * abs(median) + 1e-3
    t = (value - median) / (spread * (1 + MIN_LAGS / len(past)))
    t = np.clip(t, -12.5, 12.5) if still else t
    freedom = len(past) / 2
    return np.sign(t) * (8 * freedom + 1) / (8 * freedom + 3) * np.sqrt(freedom * np.log1p(t * t / freedom))


@pytest.mark.parametrize(("n", "w"), [(1, 7), (BLOCK_ROWS - 1, 7), (BLOCK_ROWS, 64), (2 * BLOCK_ROWS + 3, 200), (9, 1)])
@pytest.mark.parametrize("more", [{}, {"c": ["burst_overall"]}, {"c": ["burst_overall"], "e": ["burst_overall"]}])
def test_a_score_is_its_parts_in_blocks_and_windows_of_any_length(n, w, more):
    features: dict[str, Any] = {"event": [], "numeric": {"a": ["raw", "zscore"], "b": ["zscore"]}, "categorical": more}
    scorer = Statistical(FeatureSpec.of(config.parse({"window": {"rows": w}, "features": features})))
    x = 9 * np.random.default_rng(n).standard_normal((n, w, 3 + len(more)), np.float32)
    x[::2, : w // 2] = np.nan
    x[::3, ::2, 3:] = np.nan
    parts = scorer._parts(x)
    others = parts.levels.sum(0) - parts.levels.max(0)
    expected = (parts.newest.max(axis=0) + others * scorer.roles.share - scorer.roles.both[0]) / scorer.roles.both[1]
    assert scorer.score(torch.from_numpy(x)).numpy() == pytest.approx(expected, rel=1e-5, abs=1e-5)


MANY = {"event": [], "numeric": {f"n{j}": ["zscore"] for j in range(30)}, "categorical": {"c": ["burst_overall"]}}
BESIDE = FeatureSpec.of(config.parse({"window": {"rows": W}, "features": MANY}))


def scored(numbers: float, burst: float, lags: slice = slice(-1, None)) -> tuple[float, F32]:
    """The score of a window with noise and, at these lags, numbers and a burst so far out; and its contributions."""
    scorer = Statistical(BESIDE)
    x = np.random.default_rng(0).standard_normal((1, W, 31), np.float32)
    x[:, :, 30] = 0.1
    x[:, lags, :30] *= numbers
    x[:, lags, 30] = burst
    return float(scorer.score(torch.from_numpy(x))[0]), scorer.explain(torch.from_numpy(x)).contribution[0]


def test_a_burst_is_heard_among_many_numbers_and_adds_to_what_they_say() -> None:
    calm, numbers, burst, both = (scored(*far)[0] for far in [(1, 0.1), (6, 0.1), (1, 9), (6, 9)])
    assert burst > calm + 2.0
    assert numbers > calm + 2.0
    assert both == pytest.approx(numbers + burst - calm, abs=0.3)
    assert scored(1, 9, slice(None))[0] > burst + 0.3


def test_what_adds_to_a_level_has_its_share_of_the_blame() -> None:
    assert scored(1, 9)[1][-1, 30] > 0.5
    assert scored(6, 0.1)[1][:, 30].sum() < 0.05
    assert 0.2 < scored(6, 9)[1][-1, 30] < 0.8


def test_without_a_category_the_numbers_are_judged_as_if_its_burst_were_usual() -> None:
    assert scored(6, np.nan)[0] == pytest.approx(scored(6, 0.1)[0], abs=1.0)
