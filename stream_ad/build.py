"""Ports -> pipeline: the one place that makes adapters and joins them to what decides a verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from stream_ad import metrics
from stream_ad.batch import Verdicts
from stream_ad.checkpoint.restore import Recovery
from stream_ad.config import Config
from stream_ad.config.features import FeatureSpec
from stream_ad.messages.encoder import Encoder
from stream_ad.protocols import ModelLog, ModelStore, Role, Sink, Source, StateStore
from stream_ad.runtime.loop import Pipeline
from stream_ad.runtime.models import Models
from stream_ad.runtime.outbox import Outbox
from stream_ad.runtime.tally import Tally, Totals
from stream_ad.state.assemble import codec
from stream_ad.state.shard import Folds


@dataclass(frozen=True, slots=True)
class Ports:
    source: Source
    sink: Sink
    states: StateStore
    log: ModelLog


def models(
    config: Config, spec: FeatureSpec, store: ModelStore | None, log: ModelLog, default: str | None = None
) -> Models:
    from stream_ad.score.engine import Engine
    from stream_ad.score.signature import Trust

    engine = Engine(config.scoring, spec, Trust(config.models.verify_keys), metrics.scorer_faults)
    return Models(engine, store, log, default)


def pipeline(
    config: Config,
    spec: FeatureSpec,
    parts: Folds,
    ports: Ports,
    held: Models,
    observe: Callable[[Verdicts], None] | None = None,
    totals: Totals | None = None,
) -> Pipeline:
    """`totals` take up what is committed: see `Tally`."""
    recovery = Recovery(parts, ports.states, ports.log, config.redis)
    outbox = Outbox(Encoder(config, spec), held, ports.sink)
    return Pipeline(
        config, ports.source, codec(config), ports.sink, held, recovery, outbox, Tally(spec, totals), observe
    )


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
