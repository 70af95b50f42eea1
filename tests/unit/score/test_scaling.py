"""Robust scaling, calibration, and errors of a row."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stream_ad.score.scaling import LINEAR, Calibration, Scaler, blocks, lag_weights, row_error, shares


def test_scaling_is_robust_linear_within_five_and_logarithmic_beyond():
    rng = np.random.default_rng(0)
    x = rng.normal(100.0, 2.0, (4000, 3, 1)).astype(np.float32)
    x[:200] = 1e9  # a twentieth of nonsense moves neither centre nor spread by much
    scaler = Scaler.learn(x)
    assert scaler.centre.item() == pytest.approx(100.0, abs=0.3)
    assert scaler.spread.item() == pytest.approx(2.0, rel=0.15)
    exact = Scaler(torch.tensor([100.0]), torch.tensor([2.0]))
    z = exact.squash(torch.tensor([100.0, 94.0, 120.0, 80.0, float("nan")]).reshape(5, 1, 1))
    assert z.flatten().tolist() == pytest.approx([0.0, -3.0, 5 + np.log1p(5), -5 - np.log1p(5), 0.0])
    back = exact.expand(z, 1).flatten().tolist()
    assert back == pytest.approx([100.0, 94.0, 120.0, 80.0, 100.0], rel=1e-5)


def test_features_that_never_vary_or_never_come_can_be_scaled():
    x = np.zeros((100, 2, 3), np.float32)
    x[:, :, 1], x[:, :, 2] = 1e9, np.nan
    scaler = Scaler.learn(x)
    assert scaler.centre.tolist() == [0.0, 1e9, 0.0]
    assert scaler.spread.tolist() == pytest.approx([0.05, 5e7, 1.0])


def test_missing_entries_carry_no_error_and_newer_lags_weigh_more():
    x = torch.tensor([[[1.0, float("nan")], [2.0, 3.0]], [[float("nan")] * 2] * 2])
    z = torch.zeros(2, 4)
    y = torch.tensor([[1.0, 100.0, 2.0, 0.0], [9.0] * 4])
    error = row_error(x, z, y, lag_weights(2, 2))
    assert error[0].item() == pytest.approx((0.7 * 1.0 + 4.0) / (0.7 + 1.0 + 1.0))
    assert error[1].isnan()
    overflowed = row_error(x[:1], z[:1], torch.tensor([[0.0, 0.0, float("nan"), 0.0]]), lag_weights(2, 2))
    assert Calibration(torch.tensor([0.0, 1.0])).score(torch.cat([error, overflowed])).tolist()[1:] == [0.0, 50.0]


def test_calibrated_scores_have_mean_0_and_deviation_1_whatever_the_scale_of_the_error():
    error = torch.from_numpy(np.random.default_rng(0).lognormal(size=20_000).astype(np.float32))
    for scale in (1e-3, 1.0, 1e5):
        score = Calibration.learn(error * scale).score(error * scale)
        assert score.mean().item() == pytest.approx(0.0, abs=0.05)
        assert score.std().item() == pytest.approx(1.0, abs=0.05)


def test_shares_sum_to_one_even_of_nothing():
    parts = torch.tensor([[[0.0, 0.0]], [[1.0, 3.0]], [[float("inf"), 1.0]]])
    assert shares(parts).flatten(1).tolist() == [[0.5, 0.5], [0.25, 0.75], [1.0, pytest.approx(0.0, abs=1e-6)]]


def test_blocks_are_all_rows_in_order():
    x = torch.arange(1300.0)
    assert torch.equal(torch.cat(list(blocks(x))), x)
    assert LINEAR == 5.0
