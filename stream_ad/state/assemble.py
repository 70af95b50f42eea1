"""What decides a verdict, put together from a configuration: no metrics, no clients, no threads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import orjson

from stream_ad import registry
from stream_ad.batch import EventBatch, FeatureBatch, Message, RawBatch, Scores, Strings, Verdicts
from stream_ad.codec.border import GuardedCodec
from stream_ad.codec.decoded import Decoded
from stream_ad.config import Config
from stream_ad.config.features import FeatureSpec, categorical_fields
from stream_ad.errors import StateError
from stream_ad.fold.budget import Budget
from stream_ad.fold.features.featuriser import Featuriser
from stream_ad.fold.hidden import Hidden
from stream_ad.fold.incidents import Incidents, OutOfRange
from stream_ad.fold.keys import Keys
from stream_ad.fold.recent import Recent
from stream_ad.fold.silence import Silence
from stream_ad.messages.encoder import Encoder, explained_rows
from stream_ad.protocols import BUILT_IN, Codec, Inference
from stream_ad.state.border import GuardedThreshold, GuardedWindow
from stream_ad.state.settings import folded
from stream_ad.state.shard import UNKNOWN, Folds, Shard

RECENT_ROWS = 256


@dataclass(frozen=True, slots=True)
class Assembly:
    """The parts of one pipeline that decide its verdicts."""

    spec: FeatureSpec
    codec: Codec
    folds: Folds
    encoder: Encoder

    @classmethod
    def of(cls, config: Config) -> Assembly:
        """Raises `ConfigError` naming the key."""
        spec = FeatureSpec.of(config)
        return cls(spec, codec(config), folds(config, spec), Encoder(config, spec))

    def shard(self, partition: int, version: str = BUILT_IN, partitions: int = 1) -> Shard:
        """An empty shard of one of so many partitions, which `version` judges."""
        return Shard(self.folds.among(partitions), partition, UNKNOWN, version)


@dataclass(frozen=True, slots=True)
class Judged:
    """The outcome of some batches, in each partition in the order of its log."""

    verdicts: list[Verdicts]  # one for each batch that holds events
    alerts: list[Message]
    rejects: list[Message]


def judge(parts: Assembly, shards: Mapping[int, Shard], batches: Iterable[RawBatch], models: Inference) -> Judged:
    """Bytes in, alerts out: folds each batch into its partition's shard, and scores all of them together.

    A batch must begin at its shard's `next_offset` or later. Raises `StateError` where one begins earlier, and what
    `models` raises; the shards are of no use after that.
    """
    return judge_decoded(parts, shards, (Decoded.of(parts.codec, raw) for raw in batches), models)


def judge_decoded(
    parts: Assembly, shards: Mapping[int, Shard], batches: Iterable[Decoded], models: Inference
) -> Judged:
    """As `judge`, for a caller that decodes in another thread."""
    judged = Judged([], [], [])
    folded: dict[str, list[tuple[Shard, FeatureBatch]]] = {}
    for decoded in batches:
        shard = shards[decoded.raw.partition]
        _follows(shard, decoded)
        judged.rejects.extend(parts.encoder.rejects(decoded.rejects))
        if len(decoded.events):
            features = shard.submit(decoded.events)
            if (late := features.windows.keyed.rejects) is not None:
                judged.rejects.extend(parts.encoder.rejects(late))
            folded.setdefault(shard.version, []).append((shard, features))
        shard.next_offset = decoded.next_offset
    for version, waiting in folded.items():
        scores = models.score(version, [features.x for _, features in waiting])
        for (shard, features), score in zip(waiting, scores, strict=True):
            verdicts, alerts = shard.finish(Scores.of(features, version, score))
            rows = explained_rows(alerts)
            explanation = models.explain(version, verdicts.scores.features.x[rows]) if len(rows) else None
            judged.verdicts.append(verdicts)
            judged.alerts.extend(parts.encoder.alerts(verdicts, alerts, explanation))
    return judged


def _follows(shard: Shard, decoded: Decoded) -> None:
    if decoded.first_offset < shard.next_offset:
        raise StateError(
            f"partition {shard.partition}: a batch begins at offset {decoded.first_offset}, and its shard has judged "
            f"all below {shard.next_offset}; begin with a new shard to judge it again"
        )


def codec(config: Config) -> Codec:
    made = registry.codec(config.record.format)
    numeric, categorical = tuple(config.features.numeric), categorical_fields(config.features)
    return GuardedCodec(made(config.record, numeric, categorical), config.record, len(numeric), len(categorical))


def folds(config: Config, spec: FeatureSpec, capacity: int | None = None) -> Folds:
    key_bytes = config.record.max_key_bytes
    window = registry.window(config.window.kind)
    threshold = registry.threshold(config.threshold.kind)
    shaping = [spec.digest, config.window.kind, config.threshold.kind, key_bytes, config.silence.enabled]
    if config.incidents.key_budget is not None:
        shaping.append("key_budget")  # only then: snapshots of earlier versions, which had no budgets, stay ours
    if config.rules.valid:
        shaping.append("valid")
    layout = orjson.dumps(shaping)
    hidden = Hidden(config, spec.numeric)
    return Folds(
        keys=Keys(config.window, key_bytes),
        hidden=hidden,
        window=GuardedWindow(window(config.window, len(spec.numeric))),
        features=Featuriser(spec, config.rules),
        recent=Recent(RECENT_ROWS, spec.rows, len(spec.features)),
        threshold=GuardedThreshold(threshold(config.threshold)),
        incidents=Incidents(config.incidents, key_bytes),
        silence=Silence(config.silence, key_bytes, hidden.calendar.times, asks=config.incidents.limited),
        ranges=OutOfRange(config.incidents, key_bytes, bool(config.rules.valid)),
        budget=Budget(config.incidents, config.threshold.false_alarm_rate),
        capacity=capacity or config.window.max_keys,
        layout=hashlib.sha256(layout).hexdigest(),
        settings=folded(config),
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
