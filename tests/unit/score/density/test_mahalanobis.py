"""The distance against its formula, and what outliers in the training rows do to it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from stream_ad.batch import F32
from stream_ad.config import ScorerOptions
from stream_ad.evaluation.ranking import Ranking
from stream_ad.score.density.mahalanobis import LEAST_VARIANCE, Mahalanobis, shrunk

F = 6
RNG = np.random.default_rng(0)
MIXED = RNG.normal(size=(F, F))


def rows(n: int, seed: int, w: int = 4) -> torch.Tensor:
    """Correlated features, the lags independent."""
    return torch.from_numpy((np.random.default_rng(seed).normal(size=(n, w, F)) @ MIXED).astype(np.float32))


def fitted(x: torch.Tensor) -> Mahalanobis:
    return Mahalanobis(Mahalanobis.fit(x, rows(2000, 1), ScorerOptions(), lambda epoch, loss, held: None).tensors)


@pytest.mark.parametrize("n", [10, 50, 5000])
def test_the_covariance_is_that_of_ledoit_and_wolf(n: int) -> None:
    """Their lemma 3.3 to 3.5, row by row."""
    z = rows(n, 2)[:, 0].double()
    covariance = sum(torch.outer(row, row) for row in z) / n
    mean = torch.trace(covariance) / F
    apart = (covariance - mean * torch.eye(F)).square().sum()
    noise = sum((torch.outer(row, row) - covariance).square().sum() for row in z) / n**2
    share = min(float(noise / apart), 1.0)
    expected = share * mean * torch.eye(F) + (1 - share) * covariance + LEAST_VARIANCE * torch.eye(F)
    torch.testing.assert_close(shrunk(z), expected)
    assert share > 0.2 if n == 10 else share < 0.1 if n == 5000 else True


def test_what_breaks_the_correlation_scores_high_though_each_value_is_usual() -> None:
    scorer, x = fitted(rows(5000, 3)), rows(1000, 4)
    odd = x.clone()
    odd[:200, -1] = x[torch.randperm(1000, generator=torch.Generator().manual_seed(0))[:200], -1].flip(1)
    label = np.arange(1000) < 200
    assert Ranking.of(scorer.score(odd).double().numpy(), label).areas()[0] > 0.85


def test_a_stretch_scores_higher_than_each_of_its_points() -> None:
    scorer = fitted(rows(5000, 3))
    x = rows(500, 5)
    shifted = x + 1.2 * x.std((0, 1))
    alone = x.clone()
    alone[:, -1] = shifted[:, -1]
    assert (scorer.score(shifted) > scorer.score(alone)).double().mean() > 0.8


def test_outliers_in_the_training_rows_do_not_hide_their_like() -> None:
    clean, x = rows(5000, 3), rows(1000, 6)
    dirty = clean.clone()
    far = 12 * torch.from_numpy(MIXED[0].astype(np.float32))
    dirty[:150] += far
    x[:20] += far
    label = np.arange(1000) < 20
    untouched, scorer = fitted(clean), fitted(dirty)
    assert Ranking.of(scorer.score(x).double().numpy(), label).areas()[1] > 0.9
    distance = [float((z := (far / one.scaler.spread).double()) @ one.precision @ z) for one in (untouched, scorer)]
    assert distance[1] == pytest.approx(distance[0], rel=0.3)


def test_the_feature_that_was_changed_is_named_with_what_the_others_imply() -> None:
    scorer, x = fitted(rows(5000, 3)), rows(300, 7)
    changed = x.clone()
    feature = np.arange(300) % F
    spread = x.std((0, 1))
    for row, j in enumerate(feature):
        changed[row, -1, j] += 6 * spread[j]
    explanation = scorer.explain(changed)
    assert (explanation.contribution.sum(1).argmax(1) == feature).mean() > 0.8
    at = np.arange(300)
    told, truth = explanation.expected[at, -1, feature], x.numpy()[at, -1, feature]
    assert np.abs(told - truth).mean() < 0.6 * np.abs(truth).mean()


@settings(max_examples=40)
@given(x=arrays.arrays(np.float32, (5, 4, F), elements=st.floats(width=32)))
def test_the_loop_scores_what_torch_scores_on_other_devices(x: F32) -> None:
    scorer = fitted(rows(1000, 3))
    expected = scorer.score(torch.from_numpy(x))
    scorer.fuse()
    torch.testing.assert_close(scorer.score(torch.from_numpy(x)), expected, rtol=1e-5, atol=1e-4)
