"""What decides a verdict, put together from a configuration: no metrics, no clients, no threads."""

from __future__ import annotations

import hashlib

import numpy as np
import orjson

from stream_ad import registry
from stream_ad.batch import EventBatch, RawBatch, Scores, Strings
from stream_ad.codec.border import GuardedCodec
from stream_ad.config import Config
from stream_ad.config.features import FeatureSpec
from stream_ad.fold.features.featuriser import Featuriser
from stream_ad.fold.incidents import Incidents
from stream_ad.fold.keys import Keys
from stream_ad.fold.recent import Recent
from stream_ad.fold.silence import Silence
from stream_ad.protocols import Codec
from stream_ad.state.border import GuardedThreshold, GuardedWindow
from stream_ad.state.shard import Folds, Shard

RECENT_ROWS = 256


def codec(config: Config) -> Codec:
    made = registry.codec(config.record.format)
    numeric, categorical = tuple(config.features.numeric), tuple(config.features.categorical)
    return GuardedCodec(made(config.record, numeric, categorical), config.record, len(numeric), len(categorical))


def folds(config: Config, spec: FeatureSpec, capacity: int | None = None) -> Folds:
    key_bytes = config.record.max_key_bytes
    window = registry.window(config.window.kind)
    threshold = registry.threshold(config.threshold.kind)
    layout = orjson.dumps([spec.digest, config.window.kind, config.threshold.kind, key_bytes, config.silence.enabled])
    return Folds(
        keys=Keys(config.window, key_bytes),
        window=GuardedWindow(window(config.window, len(spec.numeric))),
        features=Featuriser(spec),
        recent=Recent(RECENT_ROWS, spec.rows, len(spec.features)),
        threshold=GuardedThreshold(threshold(config.threshold)),
        incidents=Incidents(config.incidents, key_bytes),
        silence=Silence(config.silence, key_bytes),
        capacity=capacity or config.window.max_keys,
        layout=hashlib.sha256(layout).hexdigest(),
    )


def warm(config: Config, spec: FeatureSpec) -> None:
    """Loads (or, the first time, compiles) every kernel before the first event waits for it."""
    made = codec(config)
    raw = RawBatch("warm", 0, np.zeros(1, np.int64), np.zeros(1, np.int64), [b"k"], [b"{}"], lambda _: [], 1)
    events, _ = made.decode(raw)
    if not len(events):
        d, c = len(spec.numeric), len(spec.categorical)
        zero = np.zeros(1, np.int64)
        blank = Strings.of([b""])
        events = EventBatch(
            raw, zero, zero, zero, Strings.of([b"k"]), np.zeros((1, d)), (blank,) * c, np.zeros((1, c), np.uint64)
        )
    shard = Shard(folds(config, spec, capacity=4), 0, 0, "")
    batch = shard.submit(events)
    shard.finish(Scores(batch, "", np.zeros(len(batch))))
