"""Everything mutable that belongs to one partition: a fold over its log, and its bytes.

A snapshot is `MAGIC`, the SHA-256 of what follows, one line of JSON (offsets, version, the
layout of the arrays), then the arrays.
"""

from __future__ import annotations

import copy
import hashlib
import math
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
import orjson

from stream_ad.batch import F32, F64, Alerts, EventBatch, FeatureBatch, KeyedBatch, Scores, Verdicts, WindowBatch
from stream_ad.errors import ConfigError, StateError
from stream_ad.fold import state as columns
from stream_ad.protocols import Fold, Swap

FORMAT = 1
MAGIC = b"stream_ad snapshot\n"
UNKNOWN = -1


class KeyFold(Fold[Any, EventBatch, KeyedBatch], Protocol):
    def used(self, state: Any) -> int: ...

    def latest_ms(self, state: Any) -> int: ...


class ThresholdFold(Fold[Any, Scores, Verdicts], Protocol):
    def carry(self, state: Any, old: F64, new: F64) -> None: ...


class RecentFold(Fold[Any, FeatureBatch, None], Protocol):
    def windows(self, state: Any) -> F32: ...


@dataclass(frozen=True, slots=True)
class Folds:
    """The pipeline's folds, shared by all shards; each shard has its own states."""

    keys: KeyFold
    window: Fold[Any, KeyedBatch, WindowBatch]
    features: Fold[Any, WindowBatch, FeatureBatch]
    recent: RecentFold
    threshold: ThresholdFold
    incidents: Fold[Any, Verdicts, Alerts]
    silence: Fold[Any, Verdicts, Alerts]
    capacity: int
    layout: str  # names what a snapshot must have been made with


@dataclass(slots=True)
class States:
    keys: Any
    window: Any
    features: Any
    recent: Any
    threshold: Any
    incidents: Any
    silence: Any


class Shard:
    """The state of one partition.

    `next_offset` is the first offset that is not judged yet (`UNKNOWN` before the first
    batch of a partition that starts wherever the source says). Alerts caused below
    `mute_until` were published before and stay silent. `swaps` are those that the log
    holds for offsets still ahead. `announce` is a swap that the log does not know yet.
    """

    def __init__(self, folds: Folds, partition: int, next_offset: int, version: str) -> None:
        self.folds = folds
        self.partition = partition
        self.next_offset = next_offset
        self.version = version
        self.mute_until = 0
        self.swaps: list[Swap] = []
        self.announce: Swap | None = None
        self.owner: int | None = None
        self.saved_offset = UNKNOWN
        try:
            states = {name.name: getattr(folds, name.name).init(folds.capacity) for name in fields(States)}
        except MemoryError:
            raise ConfigError(
                f"window.max_keys: no memory for {folds.capacity:,} keys; `stream-ad check` says what they take"
            ) from None
        self.states = States(**states)

    @property
    def replaying(self) -> bool:
        return UNKNOWN != self.next_offset < self.mute_until

    @property
    def settled(self) -> bool:
        """The log knows which version judges: only then another one may follow it."""
        return self.next_offset >= self.mute_until and self.next_offset != UNKNOWN and self.announce is None

    @property
    def used(self) -> int:
        return self.folds.keys.used(self.states.keys)

    @property
    def latest_ms(self) -> int:
        return self.folds.keys.latest_ms(self.states.keys)

    def submit(self, events: EventBatch) -> FeatureBatch:
        """The half before the scorer."""
        folds, states = self.folds, self.states
        keyed = folds.keys.step(states.keys, events)
        batch = folds.features.step(states.features, folds.window.step(states.window, keyed))
        folds.recent.step(states.recent, batch)
        return batch

    def finish(self, scores: Scores) -> tuple[Verdicts, Alerts]:
        """The half after the scorer; alerts in the order of the offsets that caused them."""
        folds, states = self.folds, self.states
        verdicts = folds.threshold.step(states.threshold, scores)
        incidents = folds.incidents.step(states.incidents, verdicts)
        silence = folds.silence.step(states.silence, verdicts)
        if not len(silence):
            return verdicts, incidents
        alerts = Alerts.concat([incidents, silence])
        return verdicts, alerts.take(np.argsort(alerts.offset, kind="stable"))

    def recent_windows(self) -> F32:
        """[r,w,f] the latest scored windows of the partition, oldest first."""
        return self.folds.recent.windows(self.states.recent)

    def swap(self, version: str, old: F64, new: F64) -> None:
        """From here on `version` judges; `old` and `new` are both models' scores of `recent_windows()`."""
        self.folds.threshold.carry(self.states.threshold, old, new)
        self.version = version

    def thresholds(self) -> Any:
        """A copy to come back to with `self.states.threshold = ...` when a swap cannot be saved."""
        return copy.deepcopy(self.states.threshold)

    def snapshot(self) -> bytes:
        used = self.used
        layout, body, position = [], [], 0
        for name in fields(States):
            for field, array in columns.arrays(getattr(self.states, name.name), used).items():
                data = np.ascontiguousarray(array)
                layout.append([name.name, field, data.dtype.str, list(data.shape), position])
                body.append(data.data.cast("B") if data.size else b"")
                position += data.nbytes
        header = {
            "format": FORMAT,
            "partition": self.partition,
            "next_offset": self.next_offset,
            "version": self.version,
            "layout": self.folds.layout,
            "arrays": layout,
        }
        content = b"".join([orjson.dumps(header), b"\n", *body])
        return b"".join([MAGIC, hashlib.sha256(content).digest(), content])

    @classmethod
    def restore(cls, folds: Folds, partition: int, blob: bytes) -> Shard:
        """Raises `StateError` where the blob is damaged or was made by another configuration."""
        start = len(MAGIC) + 32
        if not blob.startswith(MAGIC) or len(blob) <= start:
            raise StateError(f"partition {partition}: not a snapshot of stream_ad")
        if hashlib.sha256(memoryview(blob)[start:]).digest() != blob[len(MAGIC) : start]:
            raise StateError(f"partition {partition}: the snapshot is damaged (its checksum does not match)")
        try:
            end = blob.index(b"\n", start)
            header = orjson.loads(blob[start:end])
            if header["format"] != FORMAT:
                found = repr(header["format"])[:40]
                raise StateError(f"partition {partition}: snapshot format {found}, this program reads {FORMAT}")
            if header["partition"] != partition or header["layout"] != folds.layout:
                raise StateError(f"partition {partition}: the snapshot was made with another configuration")
            next_offset, version = header["next_offset"], header["version"]
            if type(next_offset) is not int or next_offset < 0 or type(version) is not str:
                raise ValueError(f"next_offset {next_offset!r}, version {version!r}")
            shard = cls(folds, partition, next_offset, version)
            shard._fill(header["arrays"], memoryview(blob)[end + 1 :])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise StateError(f"partition {partition}: the snapshot does not fit: {error!r:.300}") from None
        shard.saved_offset = shard.next_offset
        return shard

    def _fill(self, layout: list[list[Any]], body: memoryview) -> None:
        """Raises `KeyError`, `TypeError` or `ValueError` where the arrays are not those of our states."""
        states = {name.name: getattr(self.states, name.name) for name in fields(States)}
        types = {array.dtype.str for state in states.values() for array in columns.arrays(state, 0).values()}
        saved: dict[str, dict[str, Any]] = {name: {} for name in states}
        end = 0
        for name, field, dtype, shape, position in layout:
            if dtype not in types or position != end or not all(type(size) is int and size >= 0 for size in shape):
                raise ValueError(f"{name}.{field}: {dtype!r} {shape!r} at {position!r}")
            count = math.prod(shape)
            array = np.frombuffer(body, dtype, count, end) if count else np.zeros(0, dtype)
            saved[name][field] = array.reshape(shape)
            end += array.nbytes
        if end != len(body):
            raise ValueError(f"{len(body)} bytes where {end} are expected")
        for name, state in states.items():
            columns.fill(state, saved[name])
        if not 0 <= self.used <= self.folds.capacity:
            raise ValueError(f"{self.used} keys where at most {self.folds.capacity} are expected")
        for name, state in states.items():
            for field, array in columns.arrays(state, self.used).items():
                if array.shape != saved[name][field].shape:
                    raise ValueError(f"{name}.{field}: not of {self.used} keys")
