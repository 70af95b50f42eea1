"""Event batches from plain rows, as a codec would make them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from stream_ad.batch import EventBatch, RawBatch, Strings

# key, event time in ms, numeric values (NaN or None = missing), categories ("" = missing)
Row: TypeAlias = tuple[str, int, Sequence[float | None]] | tuple[str, int, Sequence[float | None], Sequence[str]]


def events(
    rows: Sequence[Row],
    *,
    first_offset: int = 0,
    topic: str = "events",
    partition: int = 0,
    numeric: int | None = None,
    categorical: int | None = None,
) -> EventBatch:
    """One event per row, at consecutive offsets.

    `numeric` and `categorical` give the number of fields where no row tells (no rows at all).
    """
    d = len(rows[0][2]) if rows else numeric or 0
    c = len(_cats(rows[0])) if rows else categorical or 0
    n = len(rows)
    keys = [row[0].encode() for row in rows]
    values = np.array([[math.nan if v is None else v for v in row[2]] for row in rows], np.float64).reshape(n, d)
    columns = [[_cats(row)[column].encode() for row in rows] for column in range(c)]
    offset = np.arange(first_offset, first_offset + n, dtype=np.int64)
    ts_ms = np.array([row[1] for row in rows], np.int64)
    raw = RawBatch(
        topic=topic,
        partition=partition,
        offset=offset,
        timestamp_ms=ts_ms,
        key=list(keys),
        value=[_payload(row) for row in rows],
        headers=lambda row: [],
        next_offset=first_offset + n,
    )
    return EventBatch(
        raw=raw,
        row=np.arange(n, dtype=np.int64),
        offset=offset,
        ts_ms=ts_ms,
        key=Strings.of(keys),
        values=values,
        cats=tuple(Strings.of(column) for column in columns),
        codes=np.array([[code(text) for text in column] for column in columns], np.uint64).reshape(c, n).T.copy(),
    )


def code(category: bytes) -> int:
    """A stable 64-bit hash, 0 for the missing category."""
    return int.from_bytes(hashlib.blake2b(category, digest_size=8).digest(), "little") if category else 0


def _cats(row: Row) -> Sequence[str]:
    return row[3] if len(row) == 4 else ()


def _payload(row: Row) -> bytes:
    values = [None if v is None or math.isnan(v) else v for v in row[2]]
    return json.dumps({"key": row[0], "ts": row[1], "values": values, "cats": list(_cats(row))}).encode()


def raw_batch(
    values: list[bytes | None], keys: list[bytes | None] | None = None, timestamp_ms: list[int] | None = None
) -> RawBatch:
    n = len(values)
    return RawBatch(
        topic="events",
        partition=3,
        offset=np.arange(100, 100 + 2 * n, 2, dtype=np.int64),
        timestamp_ms=np.array([1_700_000_000_000] * n if timestamp_ms is None else timestamp_ms, np.int64),
        key=[b"key"] * n if keys is None else keys,
        value=values,
        headers=lambda row: [],
        next_offset=100 + 2 * n,
    )
