"""The columns that travel between the stages of the pipeline.

Letters in shapes: `n` events of a batch, `m` scored rows (`m <= n`), `w` lags of a window (oldest first, the newest is
`[:, -1]`), `d` numeric fields, `c` categorical fields, `f` features, `k` alerts, `b` bytes. Every batch belongs to one
partition and keeps the order of the log. Nothing writes to the arrays of a batch once it is made.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

U8: TypeAlias = npt.NDArray[np.uint8]
U64: TypeAlias = npt.NDArray[np.uint64]
I32: TypeAlias = npt.NDArray[np.int32]
I64: TypeAlias = npt.NDArray[np.int64]
F32: TypeAlias = npt.NDArray[np.float32]
F64: TypeAlias = npt.NDArray[np.float64]
Bool: TypeAlias = npt.NDArray[np.bool_]
Headers: TypeAlias = list[tuple[str, bytes | None]]
Rows: TypeAlias = slice | I64


@dataclass(frozen=True, slots=True, eq=False)
class Strings:
    """A column of byte strings in Arrow's layout: row `i` is `data[start[i]:start[i+1]]`."""

    data: U8  # [b]
    start: I64  # [n+1]

    @classmethod
    def of(cls, rows: Sequence[bytes]) -> Self:
        start = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, rows), np.int64, len(rows)), out=start[1:])
        return cls(np.frombuffer(b"".join(rows), np.uint8), start)

    def __len__(self) -> int:
        return len(self.start) - 1

    def __getitem__(self, row: int) -> bytes:
        return self.data[self.start[row] : self.start[row + 1]].tobytes()

    def tolist(self) -> list[bytes]:
        data, start = self.data.tobytes(), self.start.tolist()
        return [data[a:b] for a, b in itertools.pairwise(start)]

    def take(self, rows: npt.NDArray[np.integer]) -> Strings:
        first, size = self.start[rows], self.start[rows + 1] - self.start[rows]
        start = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(size, out=start[1:])
        return Strings(self.data[np.arange(start[-1]) + np.repeat(first - start[:-1], size)], start)

    def slice(self, first: int, last: int) -> Strings:
        start = self.start[first : last + 1]
        return Strings(self.data[start[0] : start[-1]], start - start[0])

    @staticmethod
    def concat(parts: Iterable[Strings]) -> Strings:
        return Strings.of([row for part in parts for row in part.tolist()])


@dataclass(frozen=True, slots=True, eq=False)
class RawBatch:
    """Records of one partition as the source read them, in offset order."""

    topic: str
    partition: int
    offset: I64  # [n]
    timestamp_ms: I64  # [n]  the record's own (broker or producer) time; -1 = none
    key: list[bytes | None]  # [n]
    value: list[bytes | None]  # [n]  None = tombstone
    headers: Callable[[int], Headers]  # row -> headers; called for rejects only
    next_offset: int  # the offset to read next; also after control records

    def __len__(self) -> int:
        return len(self.value)


@dataclass(frozen=True, slots=True, eq=False)
class RejectBatch:
    """Records that could not become events, with the reason of each."""

    raw: RawBatch
    row: list[int]  # [r]  rows of `raw`
    reason: list[str]  # [r]  starts with a stable code, as in "bad_json: ..."

    def __len__(self) -> int:
        return len(self.row)

    def split(self, offset: int) -> tuple[RejectBatch, RejectBatch]:
        """Those below `offset`, and the rest."""
        cut = int(np.searchsorted(self.raw.offset[self.row], offset)) if self.row else 0
        return (
            RejectBatch(self.raw, self.row[:cut], self.reason[:cut]),
            RejectBatch(self.raw, self.row[cut:], self.reason[cut:]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class EventBatch:
    """Decoded events of one partition."""

    raw: RawBatch
    row: I64  # [n]  rows of `raw`
    offset: I64  # [n]  strictly increasing
    ts_ms: I64  # [n]  event time, milliseconds since the epoch (UTC)
    key: Strings  # [n]
    values: F64  # [n,d]  NaN = missing, never infinite
    cats: tuple[Strings, ...]  # c columns of [n]; empty string = missing
    codes: U64  # [n,c]  stable 64-bit hash of the category; 0 = missing

    def __len__(self) -> int:
        return len(self.offset)

    def slice(self, first: int, last: int) -> EventBatch:
        cats = tuple(column.slice(first, last) for column in self.cats)
        return self._part(slice(first, last), self.key.slice(first, last), cats)

    def take(self, rows: I64) -> EventBatch:
        return self._part(rows, self.key.take(rows), tuple(column.take(rows) for column in self.cats))

    def _part(self, rows: Rows, key: Strings, cats: tuple[Strings, ...]) -> EventBatch:
        at, offset, ts_ms = self.row[rows], self.offset[rows], self.ts_ms[rows]
        return EventBatch(self.raw, at, offset, ts_ms, key, self.values[rows], cats, self.codes[rows])


@dataclass(frozen=True, slots=True, eq=False)
class KeyedBatch:
    """Events with their key's row in the shard. The late policy may have removed late ones."""

    events: EventBatch  # [n]  the events that remain
    slot: I32  # [n]  row of the key in every per-key state array
    fresh: Bool  # [n]  the slot is (re)assigned to a new key here: forget what it held
    watermark: I64  # [n]  ms; the partition's watermark once this event is seen
    dropped: int  # late events dropped from this batch
    rejects: RejectBatch | None  # late events sent to the rejects topic
    quiet: Bool  # [n]  the calendar has the event not judged, and its fields are missing
    given: F64  # [n,d]  the values of the events before any was hidden
    outside: I32  # [n]  numeric field with a value outside its valid range, which is missing too; -1 = none

    @classmethod
    def of(
        cls, events: EventBatch, slot: I32, fresh: Bool, watermark: I64, dropped: int = 0,
        rejects: RejectBatch | None = None,
    ) -> Self:  # fmt: skip
        """Of events of which nothing is hidden."""
        never, nowhere = np.zeros(len(events), np.bool_), np.full(len(events), -1, np.int32)
        return cls(events, slot, fresh, watermark, dropped, rejects, never, events.values, nowhere)

    def __len__(self) -> int:
        return len(self.slot)


@dataclass(frozen=True, slots=True, eq=False)
class WindowBatch:
    """Every event, with the window of its key that ends with this event."""

    keyed: KeyedBatch
    values: F64  # [n,w,d]  NaN where the lag is absent or the value missing
    age_ms: I64  # [n,w]  event time of the newest row less that of the lag; -1 = absent
    count: I32  # [n]  lags present, the event included
    emit: Bool  # [n]  whether the event is scored (the hop)

    def __len__(self) -> int:
        return len(self.count)


@dataclass(frozen=True, slots=True, eq=False)
class FeatureBatch:
    """The input of the scorer, and what an explanation needs to speak in original units."""

    windows: WindowBatch
    row: I64  # [m]  rows of `windows` that are scored
    x: F32  # [m,w,f]  NaN where absent or missing, never infinite
    base: F64  # [m,q,2]  mean and standard deviation expected before the event, as `FeatureSpec.expected` lists them

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    features: FeatureBatch
    version: str  # of the model that scored
    score: F64  # [m]  finite; calibrated: about mean 0, standard deviation 1 on normal data

    @classmethod
    def of(cls, features: FeatureBatch, version: str, score: F64) -> Self:
        """From the engine's scores: a row without a usable one (NaN) is left out, as a row that the hop skips."""
        usable = np.isfinite(score)
        if not usable.all():
            features = FeatureBatch(features.windows, features.row[usable], features.x[usable], features.base[usable])
        return cls(features, version, score[usable])

    def __len__(self) -> int:
        return len(self.score)


@dataclass(frozen=True, slots=True, eq=False)
class Verdicts:
    """Each score against its key's threshold as it stood before the score was learnt."""

    scores: Scores
    threshold: F64  # [m]  in units of the score
    deviation: F64  # [m]  standard deviations above the key's mean score
    p_value: F64  # [m]  calibrated probability of a deviation as high, in (0, 1]
    flag: Bool  # [m]  score > threshold
    shift: Bool  # [m]  here a lasting level shift became the key's new normal

    def __len__(self) -> int:
        return len(self.threshold)


class Rule(IntEnum):
    """Which judgement an alert comes from; its name is part of the alert's id."""

    score = 0
    shift = 1
    silence = 2
    range = 3


class Phase(IntEnum):
    opened = 0
    updated = 1
    resolved = 2


@dataclass(frozen=True, slots=True, eq=False)
class Alerts:
    """Changes of incidents, in the order in which the log caused them.

    An alert is caused by the event at `offset` (which decides on muting and exactly-once), and is
    about the key's event at `about`; the two differ when the watermark made it due.
    """

    rule: U8  # [k]  Rule
    phase: U8  # [k]  Phase
    offset: I64  # [k]  offset of the event that caused the alert
    incident: I64  # [k]  offset of the event that opened the incident
    about: I64  # [k]  offset of the last event of the key that belongs to the incident
    key: Strings  # [k]
    row: I64  # [k]  row of the Verdicts the alert is about; -1 = none (resolved, silence, range)
    ts_ms: I64  # [k]  event time of `about`
    opened_ms: I64  # [k]  event time at which the incident opened
    events: I64  # [k]  anomalous events of the incident so far
    score: F64  # [k]  of `about`; NaN where no score is meant
    threshold: F64  # [k]
    p_value: F64  # [k]
    peak_p: F64  # [k]  lowest p-value of the incident so far
    expected_ms: I64  # [k]  silence only: the gap after which it was due; else 0
    silent_ms: I64  # [k]  silence only: how long it has lasted, without pauses of the whole partition; else 0
    slot: I64  # [k]  of the key
    now_ms: I64  # [k]  the watermark at `offset`

    def __len__(self) -> int:
        return len(self.offset)

    def take(self, rows: npt.NDArray[np.integer]) -> Alerts:
        def taken(name: str) -> Any:
            value = getattr(self, name)
            return value.take(rows) if isinstance(value, Strings) else value[rows]

        return Alerts(**{column.name: taken(column.name) for column in fields(self)})

    @staticmethod
    def concat(parts: Iterable[Alerts]) -> Alerts:
        columns = list(parts)

        def joined(name: str) -> object:
            values = [getattr(part, name) for part in columns]
            if isinstance(values[0], Strings):
                return Strings.concat(values)
            return np.concatenate(values)

        return Alerts(**{column.name: joined(column.name) for column in fields(Alerts)})  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """Why rows were scored as they were, in the units of the features."""

    contribution: F32  # [k,w,f]  share of the row's error, sums to 1 over w and f
    expected: F32  # [k,w,f]  what the scorer expected of the feature
    spread: F32  # [f], or [k,f] of the newest lag  standard deviation of observed less expected on normal data


@dataclass(frozen=True, slots=True)
class Message:
    """One record to be published."""

    key: bytes | None
    value: bytes | None
    headers: Headers
