"""Any bytes are one event or one reject with its reason and position, and no neighbour notices."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_ad.batch import RawBatch, RejectBatch
from stream_ad.codec.json import JsonCodec
from stream_ad.config import Record
from stream_ad.messages import rejects as reject
from tests.support.engines import HALF, guided, thorough
from tests.support.poison import KINDS, NOW_MS, Row, any_row, good

REACHED = ("stream_ad.codec.json", "stream_ad.codec.columns", "stream_ad.messages.rejects")
CODES = {"tombstone", "bad_json", "not_an_object", "bad_key", "bad_timestamp", "bad_number", "bad_category"}
MOST_BYTES = 65_536
FIELDS = (["a", "d.x"], ["c"])
RECORDS = {"by_field": Record(key="k", timestamp="t"), "own": Record(numbers_as_text=True)}
CODECS = {name: JsonCodec(record, *FIELDS) for name, record in RECORDS.items()}
PLAIN = {name: JsonCodec(record, *FIELDS) for name, record in RECORDS.items()}
for codec in PLAIN.values():
    codec._lines = None
GOOD = [good(number) for number in range(60)]
BATCH = 30


def raw_batch(rows: list[Row], first: int) -> RawBatch:
    n = len(rows)
    times = np.array([row.time_ms for row in rows], np.int64)
    keys, values = [row.key for row in rows], [row.value for row in rows]
    return RawBatch("t", 3, np.arange(first, first + n), times, keys, values, lambda row: [], first + n)


def outcomes(codec: JsonCodec, rows: list[Row], first: int = 0) -> list[Any]:
    """What became of each: the reason of a reject, or the event to the bit."""
    events, rejects = codec.decode(raw_batch(rows, first))
    found: list[Any] = [None] * len(rows)
    for row, reason in zip(rejects.row, rejects.reason, strict=True):
        assert found[row] is None
        found[row] = reason
    for at, row in enumerate(events.row.tolist()):
        assert found[row] is None
        assert events.offset[at] == first + row
        bits = events.values[at].tobytes(), events.codes[at].tobytes(), int(events.ts_ms[at])
        found[row] = (*bits, events.key[at], *(column[at] for column in events.cats))
    assert None not in found
    assert rejects.row == sorted(rejects.row)
    assert (np.diff(events.row) > 0).all()
    assert np.isfinite(events.values[~np.isnan(events.values)]).all()
    check_rejects(codec, rejects, first)
    return found


def check_rejects(codec: JsonCodec, rejects: RejectBatch, first: int) -> None:
    messages = reject.encode(rejects, MOST_BYTES)
    for row, reason, message in zip(rejects.row, rejects.reason, messages, strict=True):
        code, _, why = reason.partition(": ")
        assert code in CODES, reason
        assert why.strip(), reason
        assert reason.isprintable(), repr(reason)
        assert len(reason) < 300
        told = dict(message.headers)
        assert told["reject_reason"] == reason.encode()
        where = (told["reject_topic"], told["reject_partition"], told["reject_offset"])
        assert where == (b"t", b"3", b"%d" % (first + row))
        size = len(message.key or b"") + len(message.value or b"")
        assert size + sum(len(name) + len(text or b"") for name, text in message.headers) <= MOST_BYTES


UNDISTURBED = {name: outcomes(PLAIN[name], GOOD) for name in PLAIN}


def law(rows: list[Row], names: Iterable[str] = CODECS) -> None:
    """Alone and among good ones, on the fast way and on the plain one: always the same."""
    mixed = [row for pair in zip(GOOD, rows, strict=False) for row in pair]
    for name in names:
        alone = [outcomes(PLAIN[name], [row], 2 * at + 1)[0] for at, row in enumerate(rows)]
        found = outcomes(CODECS[name], mixed)
        assert found[1::2] == alone
        assert found[::2] == UNDISTURBED[name][: len(rows)]


def one(data: bytes) -> None:
    """The bytes are values, each of them behind a byte that says which key and time the record has."""
    rows = []
    for part in data.split(b"\x1e")[:4]:
        kind = part[0] if part else 0
        value = None if kind == 255 else part[1:]
        key = (b"card-1", None, b"", part[1:9], part[1:])[kind % 5]
        time_ms = NOW_MS if kind % 2 else int.from_bytes(part[1:9], "little", signed=True)
        rows.append(Row(value, key, time_ms))
    law(rows, ["own" if data[:1] >= b"\x80" else "by_field"])


def seeds() -> list[bytes]:
    values = [row.value or b"" for row in GOOD[:8]]
    values += [(kind.make(Random(1)).value or b"")[:4000] for kind in KINDS.values()]
    found = [way + value for value in values for way in (b"\x05", b"\x87")]
    return [*found, b"\x1e".join(found[:4]), b"\xff"]


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_of_poison_is_the_reject_that_it_should_be(name: str) -> None:
    kind = KINDS[name]
    row = kind.make(Random(7))
    for way, wanted in (("by_field", kind.by_field), ("own", kind.own)):
        (found,) = outcomes(CODECS[way], [row])
        assert (found.partition(":")[0] if isinstance(found, str) else None) == wanted, found
    law([row])


def test_the_good_records_are_events_and_go_the_fast_way() -> None:
    for name, codec in CODECS.items():
        assert not any(isinstance(found, str) for found in UNDISTURBED[name])
        assert outcomes(codec, GOOD) == UNDISTURBED[name]
        assert codec.fast([row.value for row in GOOD]) is not None


def test_any_mixture_of_poison_keeps_the_law() -> None:
    inputs = 0

    @thorough(HALF // BATCH + 1)
    @given(st.integers(0, 2**64))
    def keeps(seed: int) -> None:
        nonlocal inputs
        random = Random(seed)
        rows = [any_row(random) for _ in range(BATCH)]
        inputs += len(rows)
        law(rows)

    keeps()
    assert inputs >= HALF


def test_whatever_bytes_reach_the_codec_keep_the_law(tmp_path: Any) -> None:
    guided("codec", tmp_path)
