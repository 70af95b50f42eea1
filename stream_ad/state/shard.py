"""The fold's state of one partition."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from stream_ad.batch import (
    F32,
    F64,
    Alerts,
    EventBatch,
    FeatureBatch,
    KeyedBatch,
    Scores,
    Verdicts,
    WindowBatch,
)
from stream_ad.errors import ConfigError, StateError
from stream_ad.fold import state as columns
from stream_ad.fold.budget import Budget, Spent
from stream_ad.fold.hidden import Hidden
from stream_ad.protocols import Fold, Threshold, Window
from stream_ad.state.settings import changed, listed, outgrown
from stream_ad.state.snapshot import Array, Damaged, Newer, Opened, Snapshot

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
    hidden: Hidden
    window: Window
    features: Fold[Any, WindowBatch, FeatureBatch]
    recent: RecentFold
    threshold: Threshold
    incidents: Fold[Any, Verdicts, Alerts]
    silence: Fold[Any, Verdicts, Alerts]
    ranges: Fold[Any, Verdicts, Alerts]
    budget: Budget
    capacity: int
    layout: str  # a hash of what shapes the states; a snapshot must have the same
    settings: Mapping[str, Any]  # all that the folds read, by dotted key; a snapshot must have been made with the same

    def among(self, partitions: int) -> Folds:
        """For the shards of a topic with so many partitions, which share a budget."""
        return replace(self, budget=self.budget.among(partitions))

    def of_topic(self, topic_id: str, cluster_id: str) -> Folds:
        """For the shards of this very topic: another one of its name has other records at the same offsets."""
        ids = {"the topic's id": topic_id, "the cluster's id": cluster_id}
        return replace(self, settings={**self.settings, **ids})


@dataclass(slots=True)
class States:
    keys: Any
    window: Any
    features: Any
    recent: Any
    threshold: Any
    incidents: Any
    silence: Any
    ranges: Any
    budget: Any


class Shard:
    """The states of a partition's folds after everything below `next_offset`, judged by `version`.

    `next_offset` is `UNKNOWN` before the first batch of a partition whose start the source chooses.
    """

    def __init__(self, folds: Folds, partition: int, next_offset: int, version: str) -> None:
        self.folds = folds
        self.partition = partition
        self.next_offset = next_offset
        self.version = version
        try:
            states = {name.name: getattr(folds, name.name).init(folds.capacity) for name in fields(States)}
        except MemoryError:
            raise ConfigError(
                f"window.max_keys: no memory for {folds.capacity:,} keys; `stream-ad check` says what they take"
            ) from None
        self.states = States(**states)

    @property
    def used(self) -> int:
        return self.folds.keys.used(self.states.keys)

    @property
    def latest_ms(self) -> int:
        return self.folds.keys.latest_ms(self.states.keys)

    @property
    def budget(self) -> Spent:
        """Of incidents: this partition's share, those told in the latest period, those held back so far."""
        return self.folds.budget.spent(self.states.budget, self.latest_ms)

    def submit(self, events: EventBatch) -> FeatureBatch:
        """The half before the scorer."""
        folds, states = self.folds, self.states
        keyed = folds.hidden.hide(folds.keys.step(states.keys, events))
        windows = folds.hidden.judged(folds.window.step(states.window, keyed))
        batch = folds.features.step(states.features, windows)
        folds.recent.step(states.recent, batch)
        return batch

    def finish(self, scores: Scores) -> tuple[Verdicts, Alerts]:
        """The half after the scorer; alerts in the order of the offsets that caused them."""
        folds, states = self.folds, self.states
        verdicts = folds.threshold.step(states.threshold, scores)
        told = [
            folds.incidents.step(states.incidents, verdicts),
            folds.silence.step(states.silence, verdicts),
            folds.ranges.step(states.ranges, verdicts),
        ]
        alerts = told[0]
        if any(map(len, told[1:])):
            alerts = Alerts.concat(told)
            alerts = alerts.take(np.argsort(alerts.offset, kind="stable"))
        return verdicts, folds.budget.step(states.budget, alerts)

    def recent_windows(self) -> F32:
        """[r,w,f] the latest scored windows of the partition, oldest first."""
        return self.folds.recent.windows(self.states.recent)

    def swap(self, version: str, old: F64, new: F64) -> None:
        """Has `version` judge from here on. `old` and `new` are both models' scores of `recent_windows()`."""
        self.folds.threshold.carry(columns.part(self.states.threshold, self.used), old, new)
        self.version = version

    def thresholds(self) -> Any:
        """A copy of the threshold's state of the used slots, for `put_back` where a swap cannot be saved."""
        return copy.deepcopy(columns.part(self.states.threshold, self.used))

    def put_back(self, version: str, thresholds: Any) -> None:
        """Undoes a swap; no event may have come in between."""
        columns.fill(columns.part(self.states.threshold, self.used), columns.arrays(thresholds, self.used))
        self.version = version

    def snapshot(self, copied: bool = False, events_per_s: int = 0) -> Snapshot:
        """The state at `next_offset`. Unless it is `copied`, the shard must not change before all of it is written.

        `events_per_s` is the rate of this process, from which the restoring one estimates; 0 = not known.
        """
        arrays = []
        for name in fields(States):
            for field, array in columns.arrays(getattr(self.states, name.name), self.used).items():
                arrays.append((name.name, field, array.copy() if copied else np.ascontiguousarray(array)))
        about = {
            "partition": self.partition,
            "next_offset": self.next_offset,
            "version": self.version,
            "layout": self.folds.layout,
            "settings": self.folds.settings,
            "events_per_s": events_per_s,
        }
        return Snapshot(about, arrays)

    @classmethod
    def restore(cls, folds: Folds, partition: int, parts: Iterable[bytes]) -> tuple[Shard, int]:
        """The shard of a snapshot, and its `events_per_s`.

        Raises `StateError` where the snapshot is damaged, has a newer format or another configuration, and what
        reading the parts raises.
        """
        try:
            opened = Opened.of(parts)
            head = opened.head
            then = head["settings"] if head["format"] >= _SETTINGS_SINCE else None
            if not isinstance(then, dict | None):
                raise TypeError(f"settings {then!r:.40}")
            changes = changed(then, folds.settings)
            if changes or head["partition"] != partition or head["layout"] != folds.layout:
                raise _another(partition, changes)
            next_offset, version, rate = head["next_offset"], head["version"], head.get("events_per_s", 0)
            if type(next_offset) is not int or next_offset < 0 or type(version) is not str:
                raise ValueError(f"next_offset {next_offset!r}, version {version!r}")
            if type(rate) is not int or rate < 0:
                raise ValueError(f"events_per_s {rate!r}")
            shard = cls(folds, partition, next_offset, version)
            shard._fill(opened)
            if changes := outgrown(then, folds.settings, shard.used):
                raise _another(partition, changes)
        except (Damaged, Newer) as error:
            raise StateError(f"partition {partition}: the snapshot cannot be read: {error}") from None
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            raise StateError(f"partition {partition}: the snapshot does not fit: {error!r:.300}") from None
        return shard, rate

    def _fill(self, opened: Opened) -> None:
        """Raises `KeyError`, `TypeError` or `ValueError` where the arrays are not those of our states."""
        shapes, format = (
            {(name, field): shape for name, field, _, shape in opened.head["arrays"]},
            opened.head["format"],
        )
        names = [name.name for name in fields(States) if format >= _SINCE.get((name.name, ""), 1)]
        states = [(name, getattr(self.states, name)) for name in names]
        rows = [
            shapes[name, field][0]
            for name, state in states
            for field in columns.per_key_fields(state)
            if format >= _SINCE.get((name, field), 1)
        ][:1]
        used = rows[0] if rows else 0
        if type(used) is not int or not 0 <= used <= self.folds.capacity:
            raise ValueError(f"{used!r:.40} keys where at most {self.folds.capacity} are expected")
        targets = [
            Target(name, field, array, _as_stored(format, name, field, array))
            for name, state in states
            for field, array in columns.arrays(state, used).items()
            if format >= _SINCE.get((name, field), 1)
        ]
        expected = [[one.state, one.field, one.stored.dtype.str, list(one.stored.shape)] for one in targets]
        wrong = next((row for row, due in zip(opened.head["arrays"], expected, strict=True) if row != due), None)
        if wrong is not None:
            raise ValueError(f"an array that is not ours: {wrong!r:.100}")
        opened.pour(one.stored for one in targets)
        for one in targets:
            if one.stored is not one.array and format >= _ANEW.get((one.state, one.field), 1):
                one.array[..., : one.stored.shape[-1]] = one.stored
        if self.used != used:
            raise ValueError(f"{self.used} keys where {used} are expected")


def _another(partition: int, changes: list[str]) -> StateError:
    what = f": {listed(changes)}" if changes else ""
    return StateError(f"partition {partition}: the snapshot was made with another configuration{what}")


_SETTINGS_SINCE = 10  # the format


class Target(NamedTuple):
    """An array to be filled, and the one that a snapshot has of it: the same, or one with fewer columns."""

    state: str
    field: str
    array: Array
    stored: Array


# states, and arrays of them, that earlier formats lack: they stay as they begin
_SINCE = {
    ("budget", ""): 4,
    ("ranges", ""): 5,
    ("features", "covariance"): 6,
    ("features", "precision"): 6,
    ("features", "joint_rows"): 6,
    ("features", "season"): 7,
    ("features", "season_pool"): 7,
    ("features", "bursts"): 8,
    ("features", "burst_totals"): 8,
    ("features", "feed"): 9,
    ("threshold", "calibration"): 9,
    ("threshold", "key_calibration"): 9,
}
# arrays that had fewer columns before a format, and how many; the new are 0
_GREW = {
    ("features", "fields"): (3, 5),
    ("features", "pool"): (6, 5),
    ("budget", "known"): (5, 2),
    ("threshold", "tail"): (5, 7),
    ("incidents", "whole"): (8, 8),
    ("ranges", "whole"): (8, 8),
    ("features", "seen"): (9, 2),
}
# arrays whose numbers meant something else before a format: they begin anew
_ANEW = {("threshold", "tail"): 9}


def _as_stored(format: int, name: str, field: str, array: Array) -> Array:
    since, columns_before = _GREW.get((name, field), (0, 0))
    if format < since:
        return np.zeros((*array.shape[:-1], columns_before), array.dtype)
    return array if format >= _ANEW.get((name, field), 1) else np.zeros_like(array)
