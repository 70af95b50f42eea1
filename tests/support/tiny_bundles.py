"""Bundles of every format that are as small as they may be, and never were trained."""

from __future__ import annotations

import functools
from typing import Any

import torch

from stream_ad import config, registry
from stream_ad.config.features import FeatureSpec
from stream_ad.score.bundle import Bundle, Manifest

CONFIG = config.parse({"window": {"rows": 2}, "features": {"numeric": {"a": ["raw", "zscore"]}}})
SPEC = FeatureSpec.of(CONFIG)
W, F = SPEC.rows, len(SPEC.features)
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "autoencoder": {"w": W, "f": F, "hidden": [3, 2]},
    "vae": {"w": W, "f": F, "hidden": [3, 2], "samples": 0},
    "ensemble": {"w": W, "f": F, "members": ["statistical", "autoencoder"], "1.hidden": [3, 2]},
    "half_space_trees": {"w": W, "f": F, "trees": 2, "height": 3, "window": 64},
}


@functools.cache
def bundle(kind: str) -> Bundle:
    architecture = ARCHITECTURES[kind]
    shapes = registry.bundled(kind).shapes(architecture)
    integers = ("feature",)
    tensors = {
        name: torch.ones(shape, dtype=torch.int64 if name in integers else torch.float32)
        for name, shape in shapes.items()
    }
    manifest = Manifest(
        kind, architecture, SPEC.to_json(), "a test", 0, 1, 1, {"loss": 0.5}, {"loss": [0.5]}, 1_795_364_100_000
    )
    return Bundle.of(manifest, tensors)
