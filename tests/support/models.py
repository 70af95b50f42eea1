"""Windows to train on, and small bundles of every kind, trained once per test run."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch

from stream_ad import config, registry
from stream_ad.batch import F32, I64, Bool
from stream_ad.config.features import FeatureSpec
from stream_ad.score.bundle import Bundle
from stream_ad.score.train import train

CONFIG = config.parse(
    {
        "window": {"rows": 6},
        "features": {
            "event": ["gap"],
            "numeric": {"amount": ["raw", "zscore"], "rest": ["raw"]},
            "categorical": {"place": ["novelty"]},
        },
        "train": {"epochs": 12, "hidden": [24, 6], "min_events": 256},
    }
)
SPEC = FeatureSpec.of(CONFIG)
CREATED_MS = 1_795_364_100_000
KINDS = registry.names("scorer")
TRAINED = [kind for kind in KINDS if kind != "statistical"]


def windows(n: int, seed: int = 0) -> tuple[F32, I64]:
    """x [n,w,f], ts_ms [n]: correlated features at different scales, some missing, one at an offset of 1e6."""
    rng = np.random.default_rng(seed)
    w, f = SPEC.rows, len(SPEC.features)
    level = rng.normal(size=(n, 1, 2)) @ rng.normal(size=(2, f))
    x = level + 0.3 * rng.normal(size=(n, w, f))
    novelty = [feature.kind for feature in SPEC.features].index("novelty")
    x = x * [1.0, 20.0, 1.0, 1e3, 1.0] + [2.0, 0.0, 0.0, 1e6, 0.0]
    x[:, :, novelty] = rng.random((n, w)) < 0.02
    x[rng.random(x.shape) < 0.03] = np.nan
    for row in range(0, n, 7):  # keys with a short past
        x[row, : row % w] = np.nan
    return x.astype(np.float32), np.arange(n, dtype=np.int64) * 1000


def with_outliers(x: F32, seed: int = 1) -> tuple[F32, Bool, I64]:
    """x with a tenth of its rows made anomalous in one feature of the newest lag: x, which rows, which feature."""
    rng = np.random.default_rng(seed)
    x = x.copy()
    odd = rng.random(len(x)) < 0.1
    numeric = [index for index, feature in enumerate(SPEC.features) if feature.kind != "novelty"]
    feature = rng.choice(numeric, len(x))
    spread = np.nanstd(x, axis=(0, 1))
    for row in np.flatnonzero(odd):
        j = feature[row]
        x[row, -1, j] = np.nan_to_num(x[row, -1, j], nan=float(np.nanmedian(x[:, -1, j]))) + 8 * spread[j]
    return x, odd, feature


@functools.cache
def bundle(kind: str, samples: int = 0) -> Bundle:
    x, ts_ms = windows(3000)
    options = CONFIG.train.model_copy(update={"scorer": kind, "samples": samples})
    return train(x, ts_ms, SPEC, options, "windows()", CREATED_MS)


def scorer_of(kind: str, samples: int = 0) -> Any:
    """The scorer of `bundle`, on the CPU."""
    return registry.bundled(kind).of(bundle(kind, samples), torch.device("cpu"))


def blob(kind: str) -> bytes | None:
    """What `Engine.load` takes for the kind."""
    return None if kind == "statistical" else bundle(kind).to_bytes()
