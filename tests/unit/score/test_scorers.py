from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from river.anomaly import HalfSpaceTrees as RiverTrees

from stream_ad import config, registry
from stream_ad.config.features import FeatureSpec
from stream_ad.score.density.half_space_trees import HalfSpaceTrees, exported
from stream_ad.score.reconstruction import kernels
from stream_ad.score.reconstruction.fused import Fused, Layer
from stream_ad.score.reconstruction.network import trimmed_mean
from stream_ad.score.scaling import (
    LINEAR,
    Calibration,
    Scaler,
    blocks,
    lag_weights,
    row_error,
    row_error_torch,
    shares,
    squash_torch,
)
from stream_ad.score.statistical import Statistical
from tests.support.models import bundle, windows

ANY = st.floats(width=32)
CPU = torch.device("cpu")


# --- scaling


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


@settings(max_examples=80, deadline=None)
@given(
    x=arrays.arrays(np.float32, (4, 10), elements=ANY),
    y=arrays.arrays(np.float32, (4, 10), elements=st.floats(-100, 100, width=32)),
)
def test_the_kernels_do_what_torch_does_on_other_devices(x, y):
    centre, factor = torch.linspace(-3, 3, 10), torch.linspace(0.01, 5, 10)
    z = torch.empty(4, 10)
    kernels.squash(x, centre.numpy(), factor.numpy(), z.numpy())
    torch.testing.assert_close(z, squash_torch(torch.from_numpy(x), centre, factor), rtol=1e-5, atol=1e-5)
    assert z.isfinite().all()
    weight = lag_weights(5, 2)
    found = row_error(torch.from_numpy(x).reshape(4, 5, 2), z, torch.from_numpy(y), weight)
    expected = row_error_torch(torch.from_numpy(x), z, torch.from_numpy(y), weight)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, equal_nan=True)


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


@pytest.mark.parametrize("kind", ["autoencoder", "vae"])
def test_the_fused_loop_scores_as_torch_does(kind):
    scorer = registry.trainable(kind).of(bundle(kind), CPU)
    x = np.concatenate([windows(300, seed=4)[0], np.full((2, *windows(1)[0].shape[1:]), np.nan, np.float32)])
    x[5] *= 1e20
    found = scorer.score(torch.from_numpy(x))
    assert scorer.rowwise
    scorer.fused = None
    assert not scorer.rowwise
    torch.testing.assert_close(found, scorer.score(torch.from_numpy(x)), rtol=1e-4, atol=1e-4)
    assert found[-2:].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("w", "f", "hidden"), [(16, 32, (128, 16)), (5, 17, (33, 7)), (3, 10, (8, 4))])
def test_a_networks_rows_score_alone_as_among_others_wherever_they_stand(w, f, hidden):
    """Products of BLAS do not: on some processors the last rows of a product have other bits than the others."""
    widths = [w * f, *hidden, *hidden[-2::-1], w * f]
    generator = torch.Generator().manual_seed(0)
    layers = [
        Layer(torch.randn(b, a, generator=generator) / a**0.5, torch.randn(b, generator=generator), at % 2 == 0)
        for at, (a, b) in enumerate(itertools.pairwise(widths))
    ]
    plain = Scaler(torch.zeros(f), torch.ones(f))
    fused = Fused.of(plain, layers, lag_weights(w, f), Calibration(torch.tensor([0.0, 1.0])))
    x = torch.randn(300, w, f, generator=generator)
    together = fused.score(x)
    assert len(together.unique()) > 250
    order = torch.randperm(300, generator=generator)
    assert torch.equal(fused.score(x[order]), together[order])
    for first, last in ((0, 1), (7, 8), (3, 10), (100, 300), (127, 130)):
        assert torch.equal(fused.score(x[first:last]), together[first:last])


# --- statistical


def spec(w: int, **features) -> FeatureSpec:
    return FeatureSpec.of(config.parse({"window": {"rows": w}, "features": {"event": [], **features}}))


@pytest.mark.parametrize("w", [1, 2, 5, 16, 33])
def test_comparators_sort(w):
    values = np.random.default_rng(w).normal(size=(w, 20)).astype(np.float32)
    pairs = kernels.comparators(w)
    for a, b in pairs:
        values[[a, b]] = np.sort(values[[a, b]], axis=0)
    assert (np.diff(values, axis=0) >= 0).all()


@settings(max_examples=60, deadline=None)
@given(
    x=arrays.arrays(np.float32, (3, 7, 2), elements=st.one_of(st.just(float("nan")), st.floats(-1e6, 1e6, width=32)))
)
def test_medians_and_deviations_of_the_history_are_numpys(x):
    count = np.zeros((3, 2), np.int32)
    median, mad, mean_ad = (np.zeros((3, 2), np.float32) for _ in range(3))
    kernels.history(x, kernels.comparators(6), count, median, mad, mean_ad)
    for i in range(3):
        for j in range(2):
            past = x[i, :-1, j][~np.isnan(x[i, :-1, j])].astype(np.float64)
            assert count[i, j] == len(past)
            expected = np.median(past) if len(past) else 0.0
            assert median[i, j] == pytest.approx(expected, rel=1e-6)
            away = np.abs(past - float(median[i, j]))
            assert mad[i, j] == pytest.approx(np.median(away) if len(past) else 0.0, rel=1e-5, abs=1e-3)
            assert mean_ad[i, j] == pytest.approx(np.mean(away) if len(past) else 0.0, rel=1e-5, abs=1e-3)


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
    assert explanation.spread.tolist() == [0.0, 1.0]


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


def test_a_value_that_was_constant_is_bounded_when_it_moves():
    scorer = Statistical(spec(8, numeric={"a": ["raw"], "b": ["raw"]}))
    x = torch.ones(1, 8, 2)
    moved = x.clone()
    moved[0, -1, 0] = 1e20
    assert 2 < scorer.score(moved).item() - scorer.score(x).item() < 50


# --- half-space trees


def test_exported_trees_score_as_river_does():
    rng = np.random.default_rng(0)
    rows = rng.random((600, 3))
    trees = RiverTrees(n_trees=7, height=6, window_size=300, seed=3)
    for row in rows.tolist():
        trees.learn_one(dict(enumerate(row)))
    tensors = {
        **exported(trees),
        "scaler.centre": torch.zeros(3),
        "scaler.spread": torch.ones(3),
        "calibration": torch.tensor([0.0, 1.0]),
    }
    ours = HalfSpaceTrees({"height": 6, "window": 300}, tensors)
    probes = np.concatenate([rng.random((200, 3)), rng.integers(0, 2, (50, 3)).astype(float)])
    expected = [trees.score_one(dict(enumerate(row))) for row in probes.tolist()]
    assert ours.anomaly(torch.from_numpy(probes)).tolist() == expected
    assert len(set(expected)) > 50


# --- networks


def test_the_worst_rows_of_a_batch_teach_nothing():
    error = torch.cat([torch.full((98,), 2.0), torch.full((2,), 1e9)]).requires_grad_()
    trimmed_mean(error, 0.98).backward()
    assert error.grad.tolist() == pytest.approx([1 / 98] * 98 + [0.0] * 2)


def test_what_was_expected_is_not_taken_from_the_outlier_itself():
    scorer = _scorer("autoencoder")
    x = torch.from_numpy(windows(3000)[0][2400:2500].copy())
    x = x[x.isfinite().flatten(1).all(1)]
    before = scorer.explain(x).expected[:, -1, 1]
    x[:, -1, 1] += 1000.0
    after = scorer.explain(x).expected[:, -1, 1]
    assert np.median(np.abs(after - before)) < 20.0  # its scale; 1000 is 50 times that


def test_samples_of_the_reconstruction_probability_are_part_of_the_bundle():
    with_samples = bundle("vae", samples=4)
    assert with_samples.tensors["noise"].shape == (4, 6)
    assert "noise" not in bundle("vae").tensors
    x = torch.from_numpy(windows(64)[0])
    scorer = _scorer("vae", 4)
    assert torch.equal(scorer.score(x), scorer.score(x))
    assert not torch.allclose(scorer.score(x), _scorer("vae").score(x))


def _scorer(kind: str, samples: int = 0):
    from stream_ad import registry

    return registry.trainable(kind).of(bundle(kind, samples), CPU)


def test_blocks_are_all_rows_in_order():
    x = torch.arange(1300.0)
    assert torch.equal(torch.cat(list(blocks(x))), x)
    assert LINEAR == 5.0
