"""Trains a bundle on a log: with the codec and folds of `run`, then `score.train`."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from stream_ad.batch import F32, I64, Bool, EventBatch, FeatureBatch
from stream_ad.codec.decoded import Decoded
from stream_ad.config import Config
from stream_ad.config.features import FeatureSpec
from stream_ad.errors import InputError
from stream_ad.io.bounded import read_decoded
from stream_ad.protocols import ModelInfo, ModelStore, Source
from stream_ad.runtime import fields
from stream_ad.state.assemble import Assembly
from stream_ad.state.shard import Shard

if TYPE_CHECKING:
    from stream_ad.jobs.trial import Trial
    from stream_ad.score.bundle import Bundle
    from stream_ad.score.train import Progress

log = logging.getLogger(__name__)


MOST_BYTES = 64 << 20  # of features that are kept for the trial


class Latest:
    """The latest batches of all partitions, up to `MOST_BYTES` of features: what a new model is tried on."""

    def __init__(self) -> None:
        self._batches: deque[FeatureBatch] = deque()
        self._bytes = 0

    def add(self, batch: FeatureBatch) -> None:
        self._batches.append(batch)
        self._bytes += _size(batch)
        while self._bytes - _size(self._batches[0]) > MOST_BYTES:
            self._bytes -= _size(self._batches.popleft())

    def partitions(self) -> list[list[FeatureBatch]]:
        """In the order of each log."""
        found: dict[int, list[FeatureBatch]] = {}
        for batch in self._batches:
            found.setdefault(batch.windows.keyed.events.raw.partition, []).append(batch)
        return list(found.values())


def _size(batch: FeatureBatch) -> int:
    return batch.x.nbytes + batch.windows.values.nbytes


class Collector:
    """Folds whole partitions and keeps every so many-th window, at most twice `max_rows` at a time."""

    def __init__(self, parts: Assembly, max_rows: int, wanted: Callable[[EventBatch], Bool] | None = None) -> None:
        """`wanted` says of each event whether its window may be kept; without it every one may."""
        self._parts, self._max_rows, self._wanted = parts, max_rows, wanted
        self._shards: dict[int, Shard] = {}
        self._x: list[F32] = []
        self._ts: list[I64] = []
        self._stride, self._kept, self._phase = 1, 0, 0
        self.latest = Latest()
        self.events = self.rejects = self.late = 0
        self._present = np.zeros(len(fields.keys(parts.spec)), np.bool_)
        self.reason = ""  # of the first reject

    def add(self, decoded: Decoded) -> None:
        partition, events, rejects = decoded.raw.partition, decoded.events, decoded.rejects
        self.events += len(events)
        if len(rejects):
            self.reason = self.reason or rejects.reason[0]
            self.rejects += len(rejects)
        if len(events):
            if partition not in self._shards:
                self._shards[partition] = self._parts.shard(partition)
            self._present |= fields.present(events, self._parts.spec).any(axis=0)
            batch = self._shards[partition].submit(events)
            self.late += batch.windows.keyed.dropped
            self._keep(batch)
            self.latest.add(batch)

    def never(self) -> list[str]:
        """The keys of fields of which no event has a value."""
        named = zip(fields.keys(self._parts.spec), self._present.tolist(), strict=True)
        return [key for key, there in named if not there]

    def _keep(self, batch: FeatureBatch) -> None:
        rows = np.arange(len(batch))
        if self._wanted is not None:
            rows = rows[self._wanted(batch.windows.keyed.events)[batch.row]]
        first, self._phase = -self._phase % self._stride, (self._phase + len(rows)) % self._stride
        rows = rows[first :: self._stride]
        self._x.append(batch.x[rows])
        self._ts.append(batch.windows.keyed.events.ts_ms[batch.row[rows]])
        self._kept += len(rows)
        if self._kept > 2 * self._max_rows:
            x, ts = self.windows()
            self._x, self._ts, self._kept = [x[::2]], [ts[::2]], len(ts[::2])
            self._stride, self._phase = 2 * self._stride, 0

    def windows(self) -> tuple[F32, I64]:
        """x [N,w,f] and event times [N], ordered by time."""
        x, ts = np.concatenate(self._x), np.concatenate(self._ts)
        order = np.argsort(ts, kind="stable")
        return x[order], ts[order]


def collect(
    config: Config, source: Source, progress: Callable[[Collector], None] = lambda collected: None
) -> Collector:
    """Reads a bounded source to its end. `progress` gets what is collected so far."""
    parts = Assembly.of(config)
    collector = Collector(parts, config.train.max_rows)
    with closing(read_decoded(source, parts.codec)) as polls:
        for batches in polls:
            for decoded in batches:
                collector.add(decoded)
            progress(collector)
    return collector


def fit(
    config: Config,
    source: Source,
    origin: str,
    judge: bytes | None = None,
    reading: Callable[[Collector], None] = lambda collected: None,
    learning: Progress | None = None,
) -> tuple[Bundle, Trial | None]:
    """Trains on everything the bounded source gives, and tries the model beside the one that judges (None = built-in).

    Raises `ModelError`, `InputError`, `ConfigError`.
    """
    from stream_ad.jobs.trial import try_out
    from stream_ad.score.signature import Trust, signature

    for unused in config.unused:
        log.warning("%s", unused)
    Trust(config.models.verify_keys)  # a key that cannot be read should end the job before an hour of training
    if config.models.signing_key:
        signature(config.models.signing_key, "")
    collected = collect(config, source, reading)
    absent = collected.never() if collected.events else []
    if absent:
        raise InputError(
            f"{', '.join(absent)}: in none of {collected.events:,} events of {origin}; correct the name, or remove it: "
            "a model would learn nothing of it"
        )
    bundle = learnt(config, collected, origin, learning)
    latest = collected.latest.partitions()
    trial = try_out(config, Assembly.of(config), latest, approved(config, bundle).to_bytes(), judge)
    return approved(config, bundle if trial is None else bundle.with_metrics(trial.metrics)), trial


def learnt(config: Config, collected: Collector, origin: str, learning: Progress | None = None) -> Bundle:
    """A bundle, not signed, of the collected windows. Raises `ModelError`, `InputError`, `ConfigError`."""
    from stream_ad.score.train import train

    if not collected.events:
        rejected = ""
        if collected.rejects:
            rejected = f"; {collected.rejects} records were rejected, the first for {collected.reason!r}: see record.*"
        raise InputError(f"{origin}: no events to learn from{rejected}")
    x, ts_ms = collected.windows()
    if not len(x):
        raise InputError(
            f"{origin}: none of {collected.events:,} events may be learnt from; none comes before those that are judged"
        )
    stride = -(-len(x) // config.train.max_rows)
    spec, now_ms = FeatureSpec.of(config), int(time.time() * 1000)
    return train(x[::stride], ts_ms[::stride], spec, config.train, origin, now_ms, learning)


def approved(config: Config, bundle: Bundle) -> Bundle:
    """Signed where `models.signing_key` is set. Raises `ConfigError`, and `ModelError` where our own
    `models.verify_keys` would refuse it."""
    from stream_ad.score.signature import Trust

    if config.models.signing_key:
        bundle = bundle.signed(config.models.signing_key)
    Trust(config.models.verify_keys).check(bundle.version, bundle.manifest.sha256, bundle.signature)
    return bundle


def register(store: ModelStore, bundle: Bundle) -> ModelInfo:
    """Puts the bundle into the registry."""
    info = bundle.info()
    store.put(info, bundle.to_bytes())
    return info


def next_step(info: ModelInfo, config: Config) -> str:
    """What lets a registered version judge."""
    from stream_ad.jobs.trial import objections

    command = f"`stream-ad models promote {info.version}`"
    reasons = objections(info.metrics, config)
    return f"{command} lets it judge" if not reasons else f"{command} refuses it without --force: {'; '.join(reasons)}"


def promote(store: ModelStore, info: ModelInfo, config: Config, force: bool = False) -> None:
    """Lets a registered version judge. Raises `ModelError` where its trial speaks against it, unless `force`."""
    from stream_ad.errors import ModelError
    from stream_ad.jobs.trial import objections

    reasons = objections(info.metrics, config)
    if reasons and not force:
        raise ModelError(
            f"model {info.version}: is registered and not promoted: {'; '.join(reasons)}; "
            f"`stream-ad models promote {info.version} --force` lets it judge all the same"
        )
    store.promote(info.version, forced=bool(reasons))
