"""Samples of the reconstruction probability."""

from __future__ import annotations

import torch

from tests.support.models import bundle, scorer_of, windows


def test_samples_of_the_reconstruction_probability_are_part_of_the_bundle():
    with_samples = bundle("vae", samples=4)
    assert with_samples.tensors["noise"].shape == (4, 6)
    assert "noise" not in bundle("vae").tensors
    x = torch.from_numpy(windows(64)[0])
    scorer = scorer_of("vae", 4)
    assert torch.equal(scorer.score(x), scorer.score(x))
    assert not torch.allclose(scorer.score(x), scorer_of("vae").score(x))
