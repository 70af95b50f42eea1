"""The distance against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stream_ad.score.density.nearest_neighbours import NearestNeighbours
from stream_ad.score.density.options import NeighboursOptions
from stream_ad.score.scaling import Calibration, Scaler


def rows(n: int, seed: int, f: int = 3) -> torch.Tensor:
    """Two clusters far apart."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2, f)) + 10.0 * rng.integers(0, 2, (n, 1, 1))
    return torch.from_numpy(x.astype(np.float32))


def fitted(x: torch.Tensor, **options: int) -> NearestNeighbours:
    found = NearestNeighbours.fit(x, rows(500, 1), NeighboursOptions(**options), lambda epoch, loss, held: None)
    return NearestNeighbours(found.architecture, found.tensors)


@pytest.mark.parametrize(("memory", "neighbours"), [(16, 1), (100, 5), (400, 16)])
def test_it_is_the_mean_distance_to_the_nearest_rows_of_an_even_sample(memory: int, neighbours: int) -> None:
    x, probes = rows(400, 0), rows(50, 2)
    scorer = fitted(x, memory=memory, neighbours=neighbours)
    scaler = Scaler.learn(x.numpy())
    scaled = [((one[:, -1] - scaler.centre) / scaler.spread).double().numpy() for one in (x, probes)]
    kept = scaled[0][np.linspace(0, 399, memory).astype(int)]
    error = [np.sort(np.abs(kept - probe).sum(1))[:neighbours].mean() / 3 for probe in scaled[1]]
    expected = Calibration(scorer.calibration.constants).score(torch.tensor(error))
    torch.testing.assert_close(scorer.score(probes).double(), expected.double(), rtol=1e-4, atol=1e-4)


def test_what_lies_between_the_clusters_scores_high() -> None:
    """Each of its values is usual, and so is their covariance."""
    scorer = fitted(rows(2000, 0))
    between = torch.full((1, 2, 3), 5.0)
    assert scorer.score(between)[0] > scorer.score(rows(1000, 3)).quantile(0.999)


def test_few_rows_are_all_remembered() -> None:
    assert len(fitted(rows(100, 0)).memory) == 100
