"""Measures each stage on its own, and all of them together."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import matplotlib as mpl
import numpy as np
from confluent_kafka import Consumer, TopicPartition
from rich.console import Console

from benchmarks import load
from stream_ad import build
from stream_ad.batch import FeatureBatch, RawBatch, Scores
from stream_ad.codec.decoded import Decoded
from stream_ad.config import Config
from stream_ad.config.features import FeatureSpec
from stream_ad.io.kafka.range import KafkaRange, range_of
from stream_ad.io.redis.stores import RedisModelStore
from stream_ad.io.seeks import FromTheStart
from stream_ad.jobs.train import fit, register
from stream_ad.protocols import Source
from stream_ad.score.bundle import Bundle
from stream_ad.service.worker import spare_the_collector
from stream_ad.state import assemble
from stream_ad.state.shard import Shard

T = TypeVar("T")
KEPT_ROWS = 400_000
TUNED = {"fetch.queue.backoff.ms": 2, "fetch.wait.max.ms": 10, "queued.min.messages": 200_000}


class Timed:
    """A source that notes when its first events came, and counts events."""

    def __init__(self, source: Source) -> None:
        self._source, self.topic = source, source.topic
        self.open, self.finished, self.close = source.open, source.finished, source.close
        self.start, self.committed = source.start, source.committed
        self.began = 0.0
        self.events = 0

    def poll(self, timeout_ms: int) -> list[RawBatch]:
        before = time.perf_counter()
        batches = self._source.poll(timeout_ms)
        count = sum(map(len, batches))
        if count and not self.began:
            self.began = before
        self.events += count
        return batches


class Run:
    """One broker, one Redis, and models per topic: a model of other keys would flag half of the events."""

    def __init__(self, brokers: str, redis: str, folder: Path, console: Console, device: str = "cpu") -> None:
        self._brokers, self._redis, self._folder, self._console = brokers, redis, folder, console
        self._device = device
        self._runs = 0
        self._bundles: dict[tuple[str, str], Bundle] = {}
        self._raw: dict[str, list[RawBatch]] = {}

    def config(self, topic: str, keys: int) -> Config:
        self._runs += 1
        capacity = int(keys / load.PARTITIONS * 1.2) + 1000
        pipeline = f"bench-{os.getpid()}-{self._runs}"
        return load.config(self._brokers, self._redis, topic, pipeline, capacity, self._device)

    def train(self, topic: str, keys: int, scorer: str) -> None:
        config = self.config(topic, keys)
        config = config.model_copy(update={"train": config.train.model_copy(update={"scorer": scorer})})
        with self._console.status(f"training: {scorer}"):
            source = KafkaRange(config.kafka, topic, *range_of(config.kafka, topic))
            bundle, _ = fit(config, source, topic)
        self._bundles[topic, scorer] = bundle
        spare_the_collector()

    def consume(self, topic: str) -> float:
        """The client alone: it fetches messages, and nothing reads them."""
        consumer = Consumer(
            {"bootstrap.servers": self._brokers, "group.id": "none", "auto.offset.reset": "earliest", **TUNED}
        )
        total = 0
        for partition in range(load.PARTITIONS):
            total += consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)[1]
        consumer.assign([TopicPartition(topic, partition, 0) for partition in range(load.PARTITIONS)])
        seen = len(consumer.consume(1, 10))
        began = time.perf_counter()
        while seen < total:
            seen += len(consumer.consume(1000, 0.01))
        spent = time.perf_counter() - began
        consumer.close()
        return total / spent

    def decode(self, topic: str) -> float:
        codec = assemble.codec(self.config(topic, 1))
        batches = self._batches(topic)
        return rate(batches, codec.decode)

    def fold(self, topic: str, keys: int) -> float:
        """All folds, with a constant score."""
        config = self.config(topic, keys)
        spec = FeatureSpec.of(config)
        assemble.warm(config, spec)
        codec, folds = assemble.codec(config), assemble.folds(config, spec)
        shards = {partition: Shard(folds, partition, 0, "") for partition in range(load.PARTITIONS)}

        def step(item: Decoded) -> None:
            shard = shards[item.raw.partition]
            batch = shard.submit(item.events)
            shard.finish(Scores(batch, "", np.zeros(len(batch))))

        return rate([Decoded.of(codec, raw) for raw in self._batches(topic)], step)

    def score(self, topic: str, keys: int, scorer: str) -> float:
        config = self.config(topic, keys)
        models, version = self._models(config, scorer)
        x = [batch.x for batch in self._features(config, topic)]

        def step(chunk: list[object]) -> None:
            models.submit(version, chunk).result()  # type: ignore[arg-type]

        groups = [x[first : first + 4] for first in range(0, len(x), 4)]
        models.load(version)
        try:
            return rate(groups, step, sum(map(len, x)))
        finally:
            models.close()

    def full(self, topic: str, keys: int, scorer: str) -> float:
        """From Kafka to Kafka, exactly once, in this process; timed from the first events to the last commit."""
        config = self.config(topic, keys)
        spec = FeatureSpec.of(config)
        assemble.warm(config, spec)
        from stream_ad.io.kafka.admin import create_outputs, end_offsets

        create_outputs(config)
        models, version = self._models(config, scorer)
        models.load(version)
        until = end_offsets(config.kafka, topic)
        ports = build.kafka_ports(config, 0, until, build.kafka_log(config))
        timed = Timed(ports.source)
        ended = 0.0

        def observe(_: object) -> None:
            nonlocal ended
            ended = time.perf_counter()

        pipeline = build.pipeline(
            config,
            spec,
            assemble.folds(config, spec),
            build.Ports(timed, ports.sink, ports.states, ports.log),
            models,
            observe,
        )
        pipeline.run(lambda: False)
        ports.sink.close()
        models.close()
        return timed.events / (ended - timed.began)

    def first_score(self) -> float:
        """Seconds from starting `stream-ad run` to the first committed event, caches warm."""
        config = self.config("few", 1000)
        file = self._folder / "bench.toml"
        file.write_text(toml(config))
        store = RedisModelStore(config.redis)
        store.promote(register(store, self._bundles["few", load.ENSEMBLE]).version)
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "stream_ad", "run", "--config", str(file)],
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},  # compiled modules are one of the warm caches
        )
        try:
            group = Consumer({"bootstrap.servers": self._brokers, "group.id": config.pipeline})
            partitions = [TopicPartition("few", partition) for partition in range(load.PARTITIONS)]
            while all(part.offset <= 0 for part in group.committed(partitions, timeout=10)):
                if process.poll() is not None:
                    raise RuntimeError(f"stream-ad run ended with {process.returncode}")
                time.sleep(0.01)
            spent = time.perf_counter() - began
            group.close()
        finally:
            process.terminate()
            process.wait()
        return spent

    def memory(self, keys: int) -> dict[str, float]:
        from stream_ad.state.size import state_bytes

        config = self.config("few", keys)
        spec = FeatureSpec.of(config)
        _, per_key = state_bytes(lambda capacity: assemble.folds(config, spec, capacity))
        return {"bytes_per_key": per_key, "window_bytes": 8 * spec.rows * len(spec.numeric)}

    def _models(self, config: Config, scorer: str) -> tuple[build.Models, str]:
        store, bundle = RedisModelStore(config.redis), self._bundles[config.source.topic, scorer]
        store.promote(register(store, bundle).version)
        models = build.models(config, FeatureSpec.of(config), store, build.kafka_log(config), bundle.version)
        return models, bundle.version

    def _features(self, config: Config, topic: str) -> list[FeatureBatch]:
        spec = FeatureSpec.of(config)
        codec, folds = assemble.codec(config), assemble.folds(config, spec)
        shards = {partition: Shard(folds, partition, 0, "") for partition in range(load.PARTITIONS)}
        return [shards[raw.partition].submit(codec.decode(raw)[0]) for raw in self._batches(topic)]

    def _batches(self, topic: str) -> list[RawBatch]:
        """The beginning of the topic, held in memory."""
        if topic not in self._raw:
            kafka = self.config(topic, 1).kafka
            source = KafkaRange(kafka, topic, *range_of(kafka, topic))
            source.open(FromTheStart(source))
            batches: list[RawBatch] = []
            while sum(map(len, batches)) < KEPT_ROWS and not source.finished():
                batches += [raw for raw in source.poll(100) if len(raw)]
            source.close()
            self._raw[topic] = batches
        return self._raw[topic]


def rate(items: Sequence[T], step: Callable[[T], object], rows: int | None = None) -> float:
    """Events per second of `step` over `items`; the first tenth is the warm-up."""
    cut = max(1, len(items) // 10)
    for item in items[:cut]:
        step(item)
    count = sum(len(item) if hasattr(item, "__len__") else len(item.raw) for item in items[cut:])  # type: ignore[attr-defined]
    if rows is not None:
        count = rows * (len(items) - cut) // len(items)
    began = time.perf_counter()
    for item in items[cut:]:
        step(item)
    return count / (time.perf_counter() - began)


def toml(config: Config) -> str:
    """The configuration as a file (durations in ms)."""
    features = config.features
    numeric = "\n".join(f"{name} = {list(kinds)}" for name, kinds in features.numeric.items())
    categorical = "\n".join(f"{name} = {list(kinds)}" for name, kinds in features.categorical.items())
    return f"""
pipeline = "{config.pipeline}"
kafka.brokers = "{config.kafka.brokers}"
source.topic = "{config.source.topic}"
redis.url = "{config.redis.url}"
record = {{ key = "card", timestamp = "ts", timestamp_format = "ms" }}
window = {{ rows = {config.window.rows}, max_keys = {config.window.max_keys} }}
train.auto = false
server.port = 0
[features]
event = {list(features.event)}
[features.numeric]
{numeric}
[features.categorical]
{categorical}
"""


def draw(figures: dict[str, list[float]], path: Path) -> None:
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(8, 3.2), layout="constrained")
    names = list(figures)[::-1]
    medians = [float(np.median(figures[name])) / 1e6 for name in names]
    axis.barh(names, medians, color=["#c44e52" if name.startswith("full") else "#4c72b0" for name in names])
    for row, value in enumerate(medians):
        axis.text(value, row, f" {value:.2f}", va="center")
    axis.set_xlabel("million events per second, one process, median")
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
    plt.close(figure)
