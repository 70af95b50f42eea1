"""What networks learn from, and what they expect."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stream_ad import config, registry
from stream_ad.config.parts import SCORER
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


@pytest.mark.parametrize("kind", ["autoencoder", "vae"])
@pytest.mark.parametrize(("fields", "rows"), [(2, 4), (6, 2)])
def test_a_network_wider_than_its_input_finds_a_broken_correlation(kind: str, fields: int, rows: int) -> None:
    """One quantity moves all fields; then the newest value of the first one is another row's. Each is usual by itself.

    An identity would reconstruct both alike. A pair of the values has a correlation of .96, so that a tenth of the
    exchanged ones fit all the same.
    """
    random = np.random.default_rng(fields)
    common = random.normal(size=(6000, rows, 1)) * random.choice([-1.0, 1.0], fields)
    x = torch.from_numpy((common + 0.2 * random.normal(size=(6000, rows, fields))).astype(np.float32))
    usual, broken = x[5000:], x[5000:].clone()
    broken[:, -1, 0] = broken[:, -1, 0].roll(1)
    options = SCORER.adapted(config.parse({}).train.model_copy(update={"scorer": kind}))
    part = registry.trainable(kind)
    fitted = part.fit(x[:5000], usual, options, lambda *step: None)
    model = part(fitted.architecture, fitted.tensors)
    found, background = model.score(broken), model.score(usual)
    assert float((found[:, None] > background).float().mean()) > 0.78
    assert float(found.median()) > float(background.quantile(0.75))
