"""The composition root: configuration -> parts. The only module that imports everything."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import orjson

from stream_ad import registry
from stream_ad.batch import RawBatch, Scores, Verdicts
from stream_ad.checkpoint.restore import Recovery
from stream_ad.codec.border import GuardedCodec
from stream_ad.config import Config
from stream_ad.config.features import FeatureSpec
from stream_ad.fold.features.featuriser import Featuriser
from stream_ad.fold.incidents import Incidents
from stream_ad.fold.keys import Keys
from stream_ad.fold.recent import Recent
from stream_ad.fold.silence import Silence
from stream_ad.protocols import Codec, ModelLog, ModelStore, Role, Sink, Source, StateStore
from stream_ad.runtime.loop import Pipeline
from stream_ad.runtime.models import Models
from stream_ad.runtime.outbox import Outbox
from stream_ad.state.border import GuardedThreshold, GuardedWindow
from stream_ad.state.shard import Folds, Shard

RECENT_ROWS = 256


@dataclass(frozen=True, slots=True)
class Ports:
    source: Source
    sink: Sink
    states: StateStore
    log: ModelLog


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


def models(
    config: Config, spec: FeatureSpec, store: ModelStore | None, log: ModelLog, default: str | None = None
) -> Models:
    from stream_ad.score.engine import Engine
    from stream_ad.score.signature import Trust

    return Models(Engine(config.scoring, spec, Trust(config.models.verify_keys)), store, log, default)


def pipeline(
    config: Config,
    spec: FeatureSpec,
    parts: Folds,
    ports: Ports,
    held: Models,
    observe: Callable[[Verdicts], None] | None = None,
) -> Pipeline:
    recovery = Recovery(parts, ports.states, ports.log, config.redis)
    outbox = Outbox(config, spec, ports.source.topic, held, ports.sink)
    return Pipeline(config, ports.source, codec(config), ports.sink, held, recovery, outbox, observe)


def warm(config: Config, spec: FeatureSpec) -> None:
    """Loads (or, the first time, compiles) every kernel before the first event waits for it."""
    made = codec(config)
    raw = RawBatch("warm", 0, np.zeros(1, np.int64), np.zeros(1, np.int64), [b"k"], [b"{}"], lambda _: [], 1)
    events, _ = made.decode(raw)
    if not len(events):
        from stream_ad.batch import EventBatch, Strings

        d, c = len(spec.numeric), len(spec.categorical)
        zero = np.zeros(1, np.int64)
        blank = Strings.of([b""])
        events = EventBatch(
            raw, zero, zero, zero, Strings.of([b"k"]), np.zeros((1, d)), (blank,) * c, np.zeros((1, c), np.uint64)
        )
    shard = Shard(folds(config, spec, capacity=4), 0, 0, "")
    batch = shard.submit(events)
    shard.finish(Scores(batch, "", np.zeros(len(batch))))


def kafka_log(config: Config) -> ModelLog:
    from stream_ad.io.kafka.models import KafkaModelLog

    return KafkaModelLog(config.kafka, config.models_topic, config.bundles_topic)


def kafka_ports(
    config: Config,
    worker: int,
    until: Mapping[int, int] | None,
    log: ModelLog,
    stopping: Callable[[], bool] = lambda: False,
) -> Ports:
    """Of one worker of the group; `until` = offsets at which a bounded run ends. Nothing waits once `stopping`."""
    from stream_ad.io.kafka.sink import KafkaSink
    from stream_ad.io.kafka.source import KafkaSource, member_name
    from stream_ad.io.kafka.until import UntilCommitted
    from stream_ad.io.redis.stores import RedisStateStore

    source = KafkaSource(config.kafka, config.source, config.pipeline, worker)
    topics: dict[Role, str] = {
        "alerts": config.sink.alerts,
        "rejects": config.sink.rejects,
        "models": config.models_topic,
        "bundles": config.bundles_topic,
    }
    name = member_name(config.pipeline, worker)
    return Ports(
        source if until is None else UntilCommitted(source, until),
        KafkaSink(config.kafka, topics, source, config.sink.delivery, name, config.sink.max_record_bytes, stopping),
        RedisStateStore(config.redis),
        log,
    )
