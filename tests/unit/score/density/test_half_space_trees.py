"""The exported trees against river."""

from __future__ import annotations

import numpy as np
import torch
from river.anomaly import HalfSpaceTrees as RiverTrees

from stream_ad.score.density.half_space_trees import HalfSpaceTrees, exported


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
