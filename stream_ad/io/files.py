"""CSV, JSON Lines and Parquet as records, as a bounded source, and files of JSON Lines.

A row becomes the same bytes, on the same partition and at the same offset, whether `produce`
writes it to a new topic or `FileSource` reads it here. So a replay of the file equals a replay of the topic.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Self, TextIO

import numpy as np
import orjson

from stream_ad.batch import Message, RawBatch
from stream_ad.config import Config, Record
from stream_ad.errors import InputError
from stream_ad.io.partition import partition_of
from stream_ad.io.seeks import Seeks
from stream_ad.io.tables import documents
from stream_ad.messages.alerts import text_of
from stream_ad.paths import field
from stream_ad.protocols import Listener

POLL_ROWS = 4096
POLL_BYTES = 16 << 20
NO_TIME_MS = -1
_UNIT_MS = {"s": 1000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}
_MILLISECOND = timedelta(milliseconds=1)
_LATEST_MS = 253_402_300_799_999  # the end of the year 9999


@dataclass(frozen=True, slots=True)
class Layout:
    """Which fields of a row make the record around it."""

    key: str  # dotted path; its text or integer is the record's key
    timestamp: str  # dotted path of the event time
    timestamp_format: str = "iso"
    stamped: bool = False  # the record's own time carries the event time

    @classmethod
    def of(cls, record: Record, key: str | None = None, timestamp: str | None = None) -> Layout:
        """The layout by which the configuration reads records. A row of a file has no record key and no record
        time: the fields `key` and `timestamp` stand for `$key` and `$timestamp` unless the caller names others.

        The event time becomes the record's own time only where `record.timestamp` is `$timestamp`: brokers
        delete records by their own time, and a file may be years old.
        """
        own_time = record.timestamp == "$timestamp"
        return cls(
            key=key or ("key" if record.key == "$key" else record.key),
            timestamp=timestamp or ("timestamp" if own_time else record.timestamp),
            timestamp_format=record.timestamp_format,
            stamped=own_time,
        )


@dataclass(frozen=True, slots=True)
class Row:
    key: bytes | None
    value: bytes
    time_ms: int  # event time; -1 = none


def rows(path: Path, layout: Layout) -> Iterator[Row]:
    """The records of a file, in order. A line of JSON keeps its bytes, malformed or not; blank lines are skipped.

    Raises `InputError`.
    """
    for value, document in documents(path):
        yield row_of(value, document, layout)


def row_of(value: bytes, document: object, layout: Layout) -> Row:
    time_ms = moment_ms(field(document, layout.timestamp), layout.timestamp_format)
    return Row(_key_of(field(document, layout.key)), value, time_ms)


def moment_ms(leaf: object, form: str) -> int:
    """Event time of a JSON value in a `record.timestamp_format`, cut to milliseconds; -1 = not such a time."""
    try:
        if form == "iso":
            if not isinstance(leaf, str):
                return NO_TIME_MS
            moment = datetime.fromisoformat(leaf)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            ms = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // _MILLISECOND
        elif isinstance(leaf, int) and not isinstance(leaf, bool):
            ms = leaf * 1000 if form == "s" else leaf // round(1 / _UNIT_MS[form])
        elif isinstance(leaf, float | str):
            ms = int(float(leaf) * _UNIT_MS[form])
        else:
            return NO_TIME_MS
    except (ValueError, OverflowError):
        return NO_TIME_MS
    return ms if 0 <= ms <= _LATEST_MS else NO_TIME_MS


def stamp_ms(row: Row, layout: Layout) -> int:
    """The record's own time; -1 = none. 0 becomes 1, since Kafka clients read 0 as "now"."""
    return max(row.time_ms, 1) if layout.stamped and row.time_ms >= 0 else NO_TIME_MS


class FileSource:
    """A file, read as if `produce` had written it to a new topic with `partitions` partitions.

    Raises `InputError` from `poll`.
    """

    def __init__(
        self, path: Path, config: Config, partitions: int = 1, key: str | None = None, timestamp: str | None = None
    ) -> None:
        self.topic = config.source.topic
        self._layout, self._partitions = Layout.of(config.record, key, timestamp), partitions
        self._rows = enumerate(rows(path, self._layout))
        self._seeks = Seeks()
        self._start: dict[int, int] = {}
        self._offset = [0] * partitions
        self._finished = False

    def open(self, listener: Listener) -> None:
        listener.assigned(range(self._partitions))

    def start(self, offsets: Mapping[int, int]) -> None:
        self._seeks.put(offsets)

    def committed(self, partitions: Sequence[int]) -> dict[int, int | None]:
        return dict.fromkeys(partitions)

    def poll(self, timeout_ms: int) -> list[RawBatch]:
        if len(self._start) < self._partitions:  # the file mixes the partitions: reading begins once all may start
            self._start.update(self._seeks.take(timeout_ms))
            if len(self._start) < self._partitions:
                return []
        by_partition: dict[int, list[Row]] = {}
        left = POLL_BYTES
        self._finished = True
        for number, row in islice(self._rows, POLL_ROWS):
            by_partition.setdefault(partition_of(row.key, number, self._partitions), []).append(row)
            left -= len(row.value)
            self._finished = False
            if left <= 0:
                break
        return [batch for partition, part in sorted(by_partition.items()) if (batch := self._batch(partition, part))]

    def finished(self) -> bool:
        return self._finished

    def close(self) -> None:
        self._rows = enumerate(iter(()))
        self._finished = True

    def _batch(self, partition: int, part: list[Row]) -> RawBatch | None:
        first = self._offset[partition]
        self._offset[partition] = last = first + len(part)
        skipped = min(max(self._start.get(partition, 0) - first, 0), len(part))
        part = part[skipped:]
        if not part:
            return None
        return RawBatch(
            topic=self.topic,
            partition=partition,
            offset=np.arange(first + skipped, last),
            timestamp_ms=np.array([stamp_ms(row, self._layout) for row in part], np.int64),
            key=[row.key for row in part],
            value=[row.value for row in part],
            headers=lambda row: [],
            next_offset=last,
        )


class JsonLines:
    """Writes alerts and rejects to a file each, one JSON object per line; a reject has its key and value as text.

    Raises `InputError` when a file cannot be written.
    """

    def __init__(self, alerts: Path | None = None, rejects: Path | None = None) -> None:
        self._alerts, self._rejects = _opened(alerts), _opened(rejects)

    def write(self, alerts: Sequence[Message], rejects: Sequence[Message]) -> None:
        if self._alerts is not None:
            self._alerts.writelines(f"{_alert_line(message)}\n" for message in alerts)
        if self._rejects is not None:
            self._rejects.writelines(f"{_reject_line(message)}\n" for message in rejects)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self._alerts, self._rejects):
            if file is not None:
                file.close()


def _opened(path: Path | None) -> TextIO | None:
    try:
        return path.open("w", encoding="utf-8", newline="\n") if path is not None else None
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error}") from None


def _alert_line(message: Message) -> str:
    return (message.value or b"null").decode()


def _reject_line(message: Message) -> str:
    fields = {name.removeprefix("reject_"): value for name, value in message.headers if name.startswith("reject_")}
    line: dict[str, Any] = {name: (value or b"").decode() for name, value in fields.items()}
    line |= {name: int(line[name]) for name in ("partition", "offset")}
    line["key"] = None if message.key is None else text_of(message.key)
    line["value"] = None if message.value is None else text_of(message.value)
    return orjson.dumps(line).decode()


def _key_of(leaf: object) -> bytes | None:
    if isinstance(leaf, str):
        return leaf.encode()
    if isinstance(leaf, float) and leaf.is_integer() and abs(leaf) <= 2.0**53:
        return str(int(leaf)).encode()
    return str(leaf).encode() if isinstance(leaf, int) and not isinstance(leaf, bool) else None
