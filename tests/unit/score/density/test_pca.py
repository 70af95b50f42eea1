"""T² and Q against their formulas, what each finds, and what outliers in the training rows do to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from stream_ad.batch import F32
from stream_ad.evaluation.ranking import Ranking
from stream_ad.score.density.mahalanobis import LEAST_VARIANCE, covariance
from stream_ad.score.density.options import PcaOptions
from stream_ad.score.density.pca import LEAST_TYPICAL, Pca, index, kept
from stream_ad.score.scaling import Calibration, Scaler

F, HIDDEN = 6, 2
LOADINGS = np.linalg.qr(np.random.default_rng(0).normal(size=(F, HIDDEN)))[0].T * 2.0


def rows(n: int, seed: int, w: int = 4) -> torch.Tensor:
    """Two hidden quantities move six features, with little noise; the lags are independent."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, w, HIDDEN)) @ LOADINGS + 0.2 * rng.normal(size=(n, w, F))
    return torch.from_numpy(x.astype(np.float32))


def fitted(x: torch.Tensor, held: torch.Tensor | None = None) -> Pca:
    held = rows(2000, 1) if held is None else held
    return Pca(Pca.fit(x, held, PcaOptions(), lambda epoch, loss, held: None).tensors)


def average_precision(scorer: Pca, odd: torch.Tensor, usual: torch.Tensor) -> float:
    score = scorer.score(torch.cat([odd, usual])).double().numpy()
    return Ranking.of(score, np.arange(len(score)) < len(odd)).areas()[1]


def test_it_is_the_sum_of_t_squared_and_the_squared_residual_each_by_its_usual_size() -> None:
    x, held, probes = rows(3000, 3), rows(2000, 1), rows(100, 4)
    scaler, scorer = Scaler.learn(x.numpy()), fitted(x, held)
    variances, vectors = np.linalg.eigh(covariance(((x - scaler.centre) / scaler.spread)[:, -1].double()).numpy())
    along = vectors[:, -HIDDEN:]

    def parts(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        within = z @ along
        return (within**2 / variances[-HIDDEN:]).sum(1), ((z - within @ along.T) ** 2).sum(1)

    def indices(view: str) -> np.ndarray:
        usual, z = (
            (scaled[:, -1] if view == "newest" else scaled.mean(1)).double().numpy()
            for scaled in ((held - scaler.centre) / scaler.spread, (probes - scaler.centre) / scaler.spread)
        )
        assert np.abs(z).max() < 5  # nothing is compressed
        return sum(own / np.median(typical) for own, typical in zip(parts(z), parts(usual), strict=True))

    error = torch.from_numpy(np.sqrt(indices("newest") * indices("mean")) / F)
    expected = Calibration(scorer.calibration.constants).score(error)
    torch.testing.assert_close(scorer.score(probes).double(), expected.double(), rtol=1e-3, atol=1e-3)


def test_what_breaks_the_correlation_is_found_though_each_value_is_usual() -> None:
    scorer, x = fitted(rows(5000, 3)), rows(1000, 4)
    odd = x[:100].clone()
    odd[:, -1] = torch.stack([x[100 + 7 * j : 200 + 7 * j, -1, j] for j in range(F)], dim=1)
    assert average_precision(scorer, odd, x[300:]) > 0.8


def test_what_lies_far_along_the_correlation_is_found() -> None:
    """Its residual is as usual: T² alone can tell."""
    scorer, x = fitted(rows(5000, 3)), rows(1000, 5)
    odd = x[:100].clone()
    odd[:, -1] += 6.0 * torch.from_numpy(LOADINGS[0].astype(np.float32))
    assert average_precision(scorer, odd, x[100:]) > 0.95


def test_a_stretch_scores_higher_than_each_of_its_points() -> None:
    scorer, x = fitted(rows(5000, 3)), rows(500, 6)
    shifted = x + 1.2 * x.std((0, 1))
    alone = x.clone()
    alone[:, -1] = shifted[:, -1]
    assert (scorer.score(shifted) > scorer.score(alone)).double().mean() > 0.9


def test_outliers_in_the_training_rows_do_not_hide_their_like() -> None:
    clean, x = rows(5000, 3), rows(1000, 7)
    far = torch.zeros(F)
    far[:2] = 15.0 * torch.tensor([1.0, -1.0])
    dirty = clean.clone()
    dirty[:200] += far
    assert average_precision(fitted(dirty), x[:20] + far, x[20:]) > 0.95
    far = far.double()
    indices = [float(far @ one.points @ far) for one in (fitted(clean), fitted(dirty))]
    assert indices[1] == pytest.approx(indices[0], rel=0.3)


def test_a_field_that_never_moved_is_found_when_it_does_and_named() -> None:
    x, held, probes = rows(3000, 3), rows(2000, 1), rows(200, 8)
    for one in (x, held, probes):
        one[:, :, 2] = 7.0
    scorer = fitted(x, held)
    assert scorer.score(probes).isfinite().all()
    moved = probes.clone()
    moved[:, -1, 2] = 12.0
    assert (scorer.score(moved) > scorer.score(probes).max()).all()
    explanation = scorer.explain(moved)
    assert (explanation.contribution.sum(1).argmax(1) == 2).all()
    assert explanation.expected[:, -1, 2] == pytest.approx(7.0, abs=1.0)


def test_fields_that_all_never_moved_are_judged_too() -> None:
    still = torch.full((500, 4, F), 3.0)
    scorer = fitted(still, still)
    moved = still[:1].clone()
    moved[:, -1, 4] = 4.0
    assert scorer.score(moved)[0] > scorer.score(still[:1])[0]
    assert scorer.explain(moved).contribution.sum(1).argmax(1).tolist() == [4]


def test_one_feature_is_judged_by_t_squared() -> None:
    x, held = rows(2000, 3)[:, :, :1], rows(2000, 1)[:, :, :1]
    scorer, spread = fitted(x, held), float(x.std())
    score = scorer.score(torch.tensor([0.5, 2.0, 4.0, 8.0])[:, None, None].repeat(1, 4, 1) * spread)
    assert (score.diff() > 0).all()
    explanation = scorer.explain(torch.full((1, 4, 1), 8.0 * spread))
    assert explanation.contribution.sum() == pytest.approx(1.0)
    assert explanation.expected[0, -1, 0] == pytest.approx(float(scorer.scaler.centre))


def test_more_features_than_rows_are_judged() -> None:
    rng = np.random.default_rng(9)
    x = torch.from_numpy(rng.normal(size=(80, 2, 100)).astype(np.float32))
    scorer = fitted(x[:40], x[40:])
    odd = x[40:].clone()
    odd[:, -1, 3] += 20.0
    assert (scorer.score(odd) > scorer.score(x[40:])).all()


def test_a_missing_value_lies_at_its_median_and_is_not_what_is_told() -> None:
    scorer, x = fitted(rows(3000, 3)), rows(200, 10)
    gone, median = x.clone(), x.clone()
    gone[:, -1, 1], median[:, -1, 1] = torch.nan, scorer.scaler.centre[1]
    assert torch.equal(scorer.score(gone), scorer.score(median))
    assert (scorer.explain(gone).contribution[:, -1, 1] == 0).all()


def test_the_feature_that_was_changed_is_named_with_what_the_others_imply() -> None:
    scorer, x = fitted(rows(5000, 3)), rows(300, 11)
    changed, feature, at = x.clone(), np.arange(300) % F, np.arange(300)
    changed[at, -1, feature] += 6 * x.std((0, 1))[feature]
    explanation = scorer.explain(changed)
    assert (explanation.contribution.sum(1).argmax(1) == feature).mean() > 0.9
    told, truth = explanation.expected[at, -1, feature], x.numpy()[at, -1, feature]
    assert np.abs(told - truth).mean() < 0.5 * np.abs(truth).mean()
    # the spread is that of what is left, which the others do not explain
    plain = scorer.explain(rows(3000, 12))
    left = rows(3000, 12)[:, -1].numpy() - plain.expected[:, -1]
    assert plain.spread == pytest.approx(left.std(0), rel=0.15)
    assert (plain.spread < 0.6 * x.std((0, 1)).numpy()).all()


@pytest.mark.parametrize(
    ("variances", "least", "count"),
    [
        ([5.0, 2.0, 1.0, 0.5, 0.5], 1.0, 2),
        ([5.0, 2.0, 1.0, 0.5, 0.5], 0.5, 3),
        ([5.0, 2.0, 1.0, 0.5, 0.5], 0.01, 4),  # something is left for Q
        ([5.0, 2.0, 1.0, 0.5, 0.5], 100.0, 1),
        ([1.0, 1.0, 1.0], 1.0, 2),
        ([0.3], 1.0, 1),
        ([0.3], 2.0, 1),
    ],
)
def test_directions_of_much_variance_are_kept(variances: list[float], least: float, count: int) -> None:
    assert kept(torch.tensor(variances, dtype=torch.float64), least) == count


def test_rows_that_never_move_are_measured_by_the_least_unit() -> None:
    variances = torch.full((3,), LEAST_VARIANCE, dtype=torch.float64)
    found = index(torch.zeros(10, 3, dtype=torch.float64), variances, torch.eye(3, dtype=torch.float64), 1)
    expected = torch.tensor([1 / LEAST_VARIANCE, 0.5, 0.5], dtype=torch.float64) / LEAST_TYPICAL
    torch.testing.assert_close(found, expected.diag())


@settings(max_examples=40)
@given(x=arrays.arrays(np.float32, (5, 4, F), elements=st.floats(width=32)))
def test_the_loop_scores_what_torch_scores_on_other_devices(x: F32) -> None:
    scorer = fitted(rows(1000, 3))
    expected = scorer.score(torch.from_numpy(x))
    scorer.fuse()
    torch.testing.assert_close(scorer.score(torch.from_numpy(x)), expected, rtol=1e-5, atol=1e-4)
