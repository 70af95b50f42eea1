"""What networks learn from, and what they expect."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stream_ad.score.reconstruction.network import trimmed_mean
from tests.support.models import scorer_of, windows


def test_the_worst_rows_of_a_batch_teach_nothing():
    error = torch.cat([torch.full((98,), 2.0), torch.full((2,), 1e9)]).requires_grad_()
    trimmed_mean(error, 0.98).backward()
    assert error.grad.tolist() == pytest.approx([1 / 98] * 98 + [0.0] * 2)


def test_what_was_expected_is_not_taken_from_the_outlier_itself():
    scorer = scorer_of("autoencoder")
    x = torch.from_numpy(windows(3000)[0][2400:2500].copy())
    x = x[x.isfinite().flatten(1).all(1)]
    before = scorer.explain(x).expected[:, -1, 1]
    x[:, -1, 1] += 1000.0
    after = scorer.explain(x).expected[:, -1, 1]
    assert np.median(np.abs(after - before)) < 20.0  # its scale; 1000 is 50 times that
