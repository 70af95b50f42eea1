"""Everything mutable that belongs to one partition: a fold over its log."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np

from stream_ad.batch import (
    F32,
    F64,
    Alerts,
    EventBatch,
    FeatureBatch,
    KeyedBatch,
    RawBatch,
    Scores,
    Verdicts,
    WindowBatch,
)
from stream_ad.errors import ConfigError, StateError, TransactionFailed
from stream_ad.fold import state as columns
from stream_ad.protocols import Fold, Swap, Threshold, Window
from stream_ad.state.snapshot import Damaged, Newer, Opened, Snapshot

UNKNOWN = -1


class KeyFold(Fold[Any, EventBatch, KeyedBatch], Protocol):
    def used(self, state: Any) -> int: ...

    def latest_ms(self, state: Any) -> int: ...


class RecentFold(Fold[Any, FeatureBatch, None], Protocol):
    def windows(self, state: Any) -> F32: ...


@dataclass(frozen=True, slots=True)
class Folds:
    """The pipeline's folds, shared by all shards; each shard has its own states."""

    keys: KeyFold
    window: Window
    features: Fold[Any, WindowBatch, FeatureBatch]
    recent: RecentFold
    threshold: Threshold
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
        self.folded = next_offset  # the first offset that was not submitted yet
        self.mute_until = 0
        self.swaps: list[Swap] = []
        self.announce: Swap | None = None
        self.owner: int | None = None
        self.saved_offset = UNKNOWN
        self.tried_offset = UNKNOWN  # the highest that is saved, or was refused because a newer one is
        self.events_per_s = 0  # folded by the process that saved it; 0 = not known
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
    def to_replay(self) -> int:
        """Events, or rather offsets, that are still to be folded silently."""
        return self.mute_until - self.next_offset if self.replaying else 0

    @property
    def unsaved(self) -> int:
        """Offsets that a new snapshot would have and the latest one has not."""
        return 0 if self.next_offset == UNKNOWN else self.next_offset - max(self.saved_offset, self.tried_offset, 0)

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

    def goes_on(self, raw: RawBatch) -> None:
        """Raises `TransactionFailed` where `raw` repeats what is folded: nothing may be folded twice."""
        first = int(raw.offset[0]) if len(raw) else raw.next_offset
        if first < max(self.folded, self.next_offset):
            raise TransactionFailed(
                f"partition {self.partition}: the source goes back to offset {first}, it had come to {self.folded}"
            )
        self.folded = raw.next_offset

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

    def snapshot(self, copied: bool = False) -> Snapshot:
        """The state at `next_offset`. Unless it is `copied`, nothing may be folded before all of it is written."""
        arrays = []
        for name in fields(States):
            for field, array in columns.arrays(getattr(self.states, name.name), self.used).items():
                arrays.append((name.name, field, array.copy() if copied else np.ascontiguousarray(array)))
        about = {
            "partition": self.partition,
            "next_offset": self.next_offset,
            "version": self.version,
            "layout": self.folds.layout,
            "events_per_s": self.events_per_s,
        }
        return Snapshot(about, arrays)

    @classmethod
    def restore(cls, folds: Folds, partition: int, parts: Iterable[bytes]) -> Shard:
        """Raises `StateError` where the snapshot is damaged, of a newer format or was made by another configuration,
        and whatever reading the parts raises."""
        try:
            opened = Opened.of(parts)
            head = opened.head
            if head["partition"] != partition or head["layout"] != folds.layout:
                raise StateError(f"partition {partition}: the snapshot was made with another configuration")
            next_offset, version, rate = head["next_offset"], head["version"], head.get("events_per_s", 0)
            if type(next_offset) is not int or next_offset < 0 or type(version) is not str:
                raise ValueError(f"next_offset {next_offset!r}, version {version!r}")
            if type(rate) is not int or rate < 0:
                raise ValueError(f"events_per_s {rate!r}")
            shard = cls(folds, partition, next_offset, version)
            shard._fill(opened)
        except (Damaged, Newer) as error:
            raise StateError(f"partition {partition}: the snapshot cannot be read: {error}") from None
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            raise StateError(f"partition {partition}: the snapshot does not fit: {error!r:.300}") from None
        shard.saved_offset, shard.events_per_s = shard.next_offset, rate
        return shard

    def _fill(self, opened: Opened) -> None:
        """Raises `KeyError`, `TypeError` or `ValueError` where the arrays are not those of our states."""
        shapes = {(name, field): shape for name, field, _, shape in opened.head["arrays"]}
        states = [(name.name, getattr(self.states, name.name)) for name in fields(States)]
        rows = [shapes[name, field][0] for name, state in states for field in columns.per_key_fields(state)][:1]
        used = rows[0] if rows else 0
        if type(used) is not int or not 0 <= used <= self.folds.capacity:
            raise ValueError(f"{used!r:.40} keys where at most {self.folds.capacity} are expected")
        targets = [
            (name, field, array) for name, state in states for field, array in columns.arrays(state, used).items()
        ]
        expected = [[name, field, array.dtype.str, list(array.shape)] for name, field, array in targets]
        wrong = next((row for row, due in zip(opened.head["arrays"], expected, strict=True) if row != due), None)
        if wrong is not None:
            raise ValueError(f"an array that is not ours: {wrong!r:.100}")
        opened.pour(array for *_, array in targets)
        if self.used != used:
            raise ValueError(f"{self.used} keys where {used} are expected")
