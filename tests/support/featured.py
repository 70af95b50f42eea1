"""Rows as the featuriser answers them."""

from typing import Any

import numpy as np

from stream_ad.batch import FeatureBatch
from stream_ad.config import Window, parse
from stream_ad.config.features import FeatureSpec
from stream_ad.config.rules import Rules
from stream_ad.fold.features.featuriser import Featuriser
from stream_ad.fold.keys import Keys
from stream_ad.fold.windows import CountWindow, TimeWindow
from tests.support.batches import Row, events

START = 1_700_000_000_000


def spec_of(rows: int = 4, **features: Any) -> FeatureSpec:
    return FeatureSpec.of(parse({"window": {"rows": rows}, "features": {"event": [], **features}}))


def featured(
    rows: list[Row],
    spec: FeatureSpec,
    span: str | None = None,
    hop: int = 1,
    capacity: int = 16,
    rules: Rules | None = None,
) -> FeatureBatch:
    window = Window(rows=spec.rows, span=span or "1h", hop=hop)
    kind = TimeWindow if span else CountWindow
    keys, windows, features = Keys(window, 64), kind(window, len(spec.numeric)), Featuriser(spec, rules)
    keyed = keys.step(keys.init(capacity), events(rows))
    return features.step(features.init(capacity), windows.step(windows.init(capacity), keyed))


def column(batch: FeatureBatch, spec: FeatureSpec, name: str) -> np.ndarray:
    """[m] a feature of the events themselves."""
    return batch.x[:, -1, [feature.name for feature in spec.features].index(name)]
