"""The scorer that needs no training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stream_ad import config
from stream_ad.config.features import FeatureSpec
from stream_ad.messages.blame import of_fields
from stream_ad.score.statistical import Statistical


def spec(w: int, **features) -> FeatureSpec:
    return FeatureSpec.of(config.parse({"window": {"rows": w}, "features": {"event": [], **features}}))


@pytest.mark.parametrize("w", [8, 16, 64])
def test_gaussian_noise_scores_about_standard_normal(w):
    features = {"numeric": {"a": ["raw", "zscore"], "b": ["raw"]}}
    x = np.random.default_rng(5).normal(size=(4000, w, 3)).astype(np.float32)
    x[:, :, [0, 2]] = x[:, :, [0, 2]] * 7.0 + 1e4  # neither scale nor offset matters
    score = Statistical(spec(w, **features)).score(torch.from_numpy(x))
    assert score.mean().item() == pytest.approx(0.0, abs=0.15)
    assert score.std().item() == pytest.approx(1.0, abs=0.15)


def test_the_first_event_of_a_key_is_judged_by_its_zscore():
    scorer = Statistical(spec(8, numeric={"a": ["raw", "zscore"]}))
    x = torch.full((3, 8, 2), float("nan"))
    x[:, -1, 0] = torch.tensor([1.0, 500.0, 500.0])
    x[:, -1, 1] = torch.tensor([0.5, 9.0, float("nan")])
    score = scorer.score(x)
    assert score[0] < 1.0
    assert score[1] > 3.0
    assert score[2] == 0.0  # nothing to compare with
    explanation = scorer.explain(x[1:2])
    assert explanation.contribution[0, -1].tolist() == [0.0, 1.0]
    assert explanation.expected[0, -1, 1] == 0.0
    assert explanation.spread.tolist() == [[0.0, 1.0]]


def test_novelty_is_a_surprise_only_where_things_are_usually_known():
    scorer = Statistical(spec(8, categorical={"a": ["novelty"]}))
    x = torch.zeros(4, 8, 1)
    x[1, -1] = 1.0  # the first new one after seven known
    x[2] = 1.0  # always new
    x[3, :-1], x[3, -1] = float("nan"), 1.0  # a key's first event
    score = scorer.score(x)
    assert score[1] > score[0] + 1
    assert score[1] > score[2] + 1
    assert score[3] == score[2] == score[0]


def test_noise_of_other_features_hides_no_deviation():
    """Seven lags tell little: of what they call twenty spreads, and of new categories, there is plenty in noise."""
    scorer = Statistical(spec(8, numeric={"a": ["zscore", "raw"]}, categorical={"c": ["novelty"]}))
    noise = np.random.default_rng(0)
    x = noise.normal(size=(5000, 8, 3)).astype(np.float32)
    x[:, :, 1] = np.exp(1.5 * x[:, :, 1])
    x[:, :, 2] = noise.random((5000, 8)) < 0.1
    x[:50, -1, 0] = 6.0
    score = scorer.score(torch.from_numpy(x)).numpy()
    assert (score[:50] > np.quantile(score[50:], 0.99)).all()


def test_a_value_that_was_constant_is_bounded_when_it_moves():
    scorer = Statistical(spec(8, numeric={"a": ["raw"], "b": ["raw"]}))
    x = torch.ones(1, 8, 2)
    moved = x.clone()
    moved[0, -1, 0] = 1e20
    assert 2 < scorer.score(moved).item() - scorer.score(x).item() < 50


def test_a_value_beside_lags_that_hardly_move_is_no_less_of_a_surprise_the_larger_it_is():
    """The quotient of both can be more than a number holds."""
    scorer = Statistical(spec(8, numeric={"a": ["raw"]}))
    x = torch.tensor([1e-38, -1e-38] * 4).reshape(1, 8, 1).repeat(3, 1, 1)
    x[:, -1, 0] = torch.tensor([1e-36, 1e10, float("inf")])
    assert 2 < scorer.score(x)[0] < scorer.score(x)[1] <= scorer.score(x)[2]


def test_a_joint_distance_stands_for_the_fields_and_is_explained_by_them():
    features = spec(8, event=["joint", "gap"], numeric={"a": ["zscore"], "b": ["zscore"]})
    scorer = Statistical(features)
    x = np.random.default_rng(3).normal(size=(2000, 8, 4)).astype(np.float32)
    x[:, :, 0] = np.sqrt((x[:, :, 2] ** 2 + x[:, :, 3] ** 2) / 2)
    score = scorer.score(torch.from_numpy(x))
    assert score.mean().item() == pytest.approx(0.0, abs=0.2)
    assert score.std().item() == pytest.approx(1.0, abs=0.2)
    usual = np.zeros((3, 8, 4), np.float32)
    usual[:, :, 0] = 1.0
    usual[0, -1] = [6.0, 0.0, 1.0, 1.0]  # none is far out: they do not go together
    usual[1, -1] = [6.0, 0.0, 8.0, 0.5]
    usual[2, :, 1], usual[2, -1, 1] = np.random.default_rng(0).normal(size=8) / 10, 9.0
    score, told = scorer.score(torch.from_numpy(usual)), scorer.explain(torch.from_numpy(usual))
    assert (score > 2.5).all()
    blamed = [of_fields(one, row, features) for one, row in zip(told.contribution, usual, strict=True)]
    assert np.sum(blamed, axis=1).argmax(axis=1).tolist() == [0, 2, 1]
    assert told.expected[0, -1].tolist() == [1.0, 0.0, 0.0, 0.0]
