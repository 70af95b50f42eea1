"""The loop over all layers at once: the scores of torch, and of a row alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from stream_ad.score.reconstruction.fused import Fused, Layer
from stream_ad.score.scaling import Calibration, Scaler, lag_weights
from tests.support.models import scorer_of, windows


@pytest.mark.parametrize("kind", ["autoencoder", "vae"])
def test_the_fused_loop_scores_as_torch_does(kind):
    scorer = scorer_of(kind)
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
