"""The law of a codec: isolation (3), shown with records of the codec's own format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from stream_ad.batch import RawBatch
from stream_ad.protocols import Codec
from stream_ad.testing.batches import assert_same, columns_of
from stream_ad.testing.samples import NOW_MS, raw_batch

Encode = Callable[[bytes, int, Sequence[float], Sequence[bytes]], bytes]  # as `Encoder.encode`

GARBAGE: tuple[bytes | None, ...] = (None, b"", b"\0", b"\xff" * 9, b"{", b"[]", b"null", b"{" * 5000)


@runtime_checkable
class Encoder(Codec, Protocol):
    """A codec that can write a record of its format. The law suite asks this of every registered codec."""

    def encode(self, key: bytes, ts_ms: int, values: Sequence[float], cats: Sequence[bytes]) -> bytes:
        """The value of a record. `values` [d], NaN = missing; `cats` [c], empty = missing. The record's own key and
        timestamp are `key` and `ts_ms` too, for codecs that read those."""
        ...


def check_codec(codec: Codec, encode: Encode, numeric: int, categorical: int, seeds: Sequence[int] = range(8)) -> None:
    """Records of the codec's format come back as they were written; among damaged ones they come back alike.

    `encode` writes a record; `numeric` and `categorical` are the numbers of fields that the codec was made for.
    """
    if not seeds:
        raise AssertionError("no seeds: the law sees nothing")
    for seed in seeds:
        rng = np.random.default_rng(seed)
        n = 40
        keys = [b"key-%d" % at for at in rng.integers(0, 9, n)]
        ts_ms = NOW_MS + 1000 * rng.permutation(n)
        numbers = rng.integers(-4000, 4000, (n, numeric)) / 4.0
        numbers[rng.random(numbers.shape) < 0.1] = np.nan
        words = [b"", b"a", b"shop 7", "käthe".encode()]
        cats = [[words[at] for at in row] for row in rng.integers(0, len(words), (n, categorical))]
        good = [encode(*event) for event in zip(keys, ts_ms.tolist(), numbers.tolist(), cats, strict=True)]
        events, rejects = codec.decode(raw_batch(keys, good, ts_ms.tolist()))
        assert not len(rejects), f"a record of the codec's own format is a reject: {rejects.reason[0]}"
        assert events.key.tolist() == keys, "keys do not come back as they were written"
        assert events.ts_ms.tolist() == ts_ms.tolist(), "event times do not come back as they were written"
        assert np.array_equal(events.values, numbers, equal_nan=True), "numbers do not come back as they were written"
        for column, name in zip(events.cats, range(categorical), strict=True):
            written = [row[name] for row in cats]
            assert column.tolist() == written, "categories do not come back as they were written"
        mixed = [value for one in good for value in (one, _damaged(one, rng))]
        check_codec_isolation(codec, mixed, [key for key in keys for _ in range(2)])


def _damaged(record: bytes, rng: np.random.Generator) -> bytes | None:
    how = rng.integers(4)
    at = int(rng.integers(len(record)))
    if how == 0:
        return record[:at]
    if how == 1:
        return record[:at] + bytes([record[at] ^ int(rng.integers(1, 256))]) + record[at + 1 :]
    if how == 2:
        return record + record[at:]
    return GARBAGE[rng.integers(len(GARBAGE))]


def check_codec_isolation(
    codec: Codec, values: Sequence[bytes | None], keys: Sequence[bytes | None] | None = None
) -> None:
    """Every record is one event or one reject, in order, and is what it would be alone.

    `values` must hold records of both kinds: else there is nothing to be kept apart.
    """
    keys = keys if keys is not None else [b"key"] * len(values)
    ts_ms = [NOW_MS + row for row in range(len(values))]
    events, rejects = codec.decode(raw_batch(keys, values, ts_ms))
    rows = sorted([*events.row.tolist(), *rejects.row])
    assert rows == list(range(len(values))), f"{len(values)} records became rows {rows}"
    assert (np.diff(events.row) > 0).all(), "the order of the events is lost"
    assert rejects.row == sorted(rejects.row), "the order of the rejects is lost"
    assert (events.offset == events.raw.offset[events.row]).all(), "an event has another record's offset"
    for place, row in enumerate(events.row.tolist()):
        alone, refused = codec.decode(_alone(keys, values, ts_ms, row))
        assert not len(refused), f"record {row} is an event among others, alone a reject: {refused.reason}"
        here = columns_of((events.slice(place, place + 1), 0, 0))
        there = columns_of((alone, 0, 0))
        for columns in (here, there):
            del columns["row"], columns["offset"]
        assert_same(there, here, f"record {row} among others")
    for place, row in enumerate(rejects.row):
        alone, refused = codec.decode(_alone(keys, values, ts_ms, row))
        assert not len(alone), f"record {row} is a reject among others ({rejects.reason[place]}), alone an event"
        assert refused.reason == [rejects.reason[place]], (
            f"record {row}: {rejects.reason[place]!r}, alone {refused.reason!r}"
        )
    if not len(events) or not len(rejects):
        raise AssertionError(f"{len(events)} events and {len(rejects)} rejects: the law sees nothing to be kept apart")


def _alone(keys: Sequence[bytes | None], values: Sequence[bytes | None], ts_ms: Sequence[int], row: int) -> RawBatch:
    return raw_batch(keys[row : row + 1], values[row : row + 1], ts_ms[row : row + 1])
