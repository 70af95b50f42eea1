"""Any bytes are a shard that is equal to what they say, or a `StateError`; a right checksum is no excuse."""

from __future__ import annotations

import copy
import functools
import hashlib
import tracemalloc
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_ad import config
from stream_ad.batch import Scores
from stream_ad.config.features import FeatureSpec
from stream_ad.errors import StateError
from stream_ad.state import assemble
from stream_ad.state.shard import Shard
from stream_ad.state.snapshot import FORMAT, MAGIC
from tests.support.batches import events
from tests.support.engines import HALF, guided, thorough
from tests.support.poison import changed

REACHED = ("stream_ad.state.shard", "stream_ad.state.snapshot", "stream_ad.fold.state")
CONFIG = config.parse(
    {
        "window": {"rows": 2, "max_keys": 4},
        "features": {"numeric": {"a": ["raw", "sum:1h"]}, "categorical": {"c": ["novelty"]}},
        "silence": {"enabled": True},
    }
)
FOLDS = assemble.folds(CONFIG, FeatureSpec.of(CONFIG))
PARTITION = 3
START = len(MAGIC) + 32
MOST_BYTES = 64 << 20  # of memory, whatever a header asks for


Parts = tuple[bytes, ...]


@functools.cache
def shard_after(rows: int) -> Shard:
    shard = Shard(FOLDS, PARTITION, 0, "v1")
    if rows:
        now = 1_767_225_600_000
        log = [(f"k{row % 3}", now + 1000 * row, [float(row)], ["x"]) for row in range(rows)]
        batch = shard.submit(events(log))
        shard.finish(Scores(batch, "v1", np.linspace(0.0, 9.0, len(batch))))
        shard.next_offset = rows
    return shard


def snapshot(rows: int) -> Parts:
    return tuple(shard_after(rows).snapshot().parts())


def split(shard: Shard, events_per_s: int = 0) -> tuple[dict[str, Any], bytes]:
    taken = shard.snapshot(events_per_s=events_per_s)
    return orjson.loads(next(taken.parts())[START:]), b"".join(array.tobytes() for *_, array in taken.arrays)


def forged(line: bytes, body: bytes | None = None, kind: bytes = b"\0") -> Parts:
    """With the checksums that it should have."""
    digest = hashlib.sha256(line).digest()
    head = MAGIC + digest + line
    return (head,) if body is None else (head, hashlib.sha256(digest + kind + body).digest() + kind + body)


def forged_1(content: bytes) -> Parts:
    """As format 1 did it."""
    return (MAGIC + hashlib.sha256(content).digest() + content,)


def joined(header: Any, body: bytes) -> Parts:
    return forged(orjson.dumps(header), body)


def law(parts: Parts, body: bytes | None = None) -> bool:
    """Whether it was restored."""
    try:
        (shard, rate), said = Shard.restore(FOLDS, PARTITION, parts), ""
    except StateError as error:
        shard, rate, said = None, 0, str(error)
    if shard is None:
        assert said.startswith(f"partition {PARTITION}: "), said
        assert len(said) < 500
        return False
    header, (again, body_again) = orjson.loads(parts[0][START:].partition(b"\n")[0]), split(shard, rate)
    assert body in (None, body_again)
    assert Shard.restore(FOLDS, PARTITION, tuple(shard.snapshot().parts()))[0].next_offset == shard.next_offset
    assert [row[:4] for row in header["arrays"]] == again["arrays"]
    for name in ("partition", "next_offset", "version", "layout"):
        assert header[name] == again[name]
    assert header.get("events_per_s", 0) == again["events_per_s"]
    assert 0 <= shard.used <= FOLDS.capacity
    return True


def one(data: bytes) -> None:
    kind, rest = data[:1], data[1:]
    if kind == b"\0":
        line, _, body = rest.partition(b"\n")
        law(forged(line, body), body)
    elif kind == b"\1":
        line, _, body = rest.partition(b"\n")
        law(forged(line, body, b"\1"))
    elif kind == b"\2":
        law(forged_1(rest))
    else:
        law((rest[: len(rest) // 2], rest[len(rest) // 2 :]))


def seeds() -> list[bytes]:
    found = []
    for rows in (0, 5):
        header, body = split(shard_after(rows))
        found.append(b"\0" + orjson.dumps(header) + b"\n" + body)
        found.append(b"\1" + orjson.dumps(header) + b"\n" + snapshot(rows)[1][33:])
        found.append(b"\2" + orjson.dumps({**header, "format": 1}) + b"\n" + body)
    return [*found, b"\3" + b"".join(snapshot(5))]


ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    1,
    2**31,
    2**63,
    2**64 - 1,
    1e300,
    0.5,
    "",
    "O",
    "<f8",
    "|u1",
    "<U9",
    "V8",
    [],
    [0],
    [-1],
    {},
]
ODD += [[10**15], [2**62, 2], [0, 2**63 - 1], [1e9], ["4"], "x" * 10_000, "<i8,<i8", "(2,)<f8", "object", "\ud7ff"]


def any_parts(random: Random) -> tuple[Parts, bytes | None]:
    """A snapshot changed at one place, its checksums usually made right again; and its body, where that is known."""
    shard = shard_after(random.choice([0, 1, 5]))
    whole = tuple(shard.snapshot().parts())
    header, body = split(shard)
    way = random.random()
    if way < 0.1:
        which = random.randrange(len(whole))
        return tuple(changed(part, random) if at == which else part for at, part in enumerate(whole)), None
    if way < 0.2:
        return forged(changed(whole[0][START:], random), body), None
    if way < 0.3:
        return forged(whole[0][START:], changed(whole[1][33:], random), b"\1"), None
    if way < 0.45:
        at = random.randrange(len(body) + 1)
        put = random.choice([b"", random.randbytes(8), b"\xff" * 8, bytes(8)])
        body = body[:at] + put + body[at + random.choice([0, len(put)]) :]
        if random.random() < 0.3:
            return forged_1(orjson.dumps({**header, "format": 1}) + b"\n" + body), body
        return joined(header, body), body
    if way < 0.6:
        name = random.choice(list(header))
        header[name] = random.choice(ODD)
        if random.random() < 0.3:
            del header[name]
    else:
        layout = header["arrays"]
        at = random.randrange(len(layout))
        if random.random() < 0.8:
            layout[at][random.randrange(4)] = random.choice(ODD)
        else:
            random.choice([layout.reverse, lambda: layout.append(layout[at]), lambda: layout.pop(at)])()
    return joined(header, body), body


def test_a_snapshot_is_restored_to_the_bit() -> None:
    for rows in (0, 1, 5):
        shard, _ = Shard.restore(FOLDS, PARTITION, snapshot(rows))
        assert tuple(shard.snapshot().parts()) == snapshot(rows)
        assert shard.used == min(rows, 3)


def _arrays(change: Any) -> Parts:
    header, body = split(shard_after(5))
    header = copy.deepcopy(header)
    change(header["arrays"])
    return joined(header, body)


HEADER, BODY = split(shard_after(5))
LINE = orjson.dumps(HEADER)
FORGED = {
    "nothing": (),
    "empty": (b"",),
    "the magic alone": (MAGIC,),
    "the head alone": snapshot(5)[:1],
    "cut short": (snapshot(5)[0], snapshot(5)[1][:-1]),
    "one bit wrong": (snapshot(5)[0], snapshot(5)[1][:-1] + bytes([snapshot(5)[1][-1] ^ 1])),
    "a header that is no JSON": forged(b"{", BODY),
    "a header that is not UTF-8": forged(b'{"\xff":1}', BODY),
    "a header that is nested 10,000 deep": forged(b"[" * 10_000, BODY),
    "a header that is a list": joined([], BODY),
    "a body in the head": (forged(LINE + b"\n" + BODY)[0],),
    "a pickle": forged(b"\x80\x04\x95", BODY),
    "of format 1 without a body": forged_1(orjson.dumps({**HEADER, "format": 1})),
    "of format 1 cut short": forged_1(orjson.dumps({**HEADER, "format": 1}) + b"\n" + BODY[:-1]),
    "of format 1 with another sum": (MAGIC + bytes(32) + orjson.dumps({**HEADER, "format": 1}) + b"\n" + BODY,),
    "a kind of packing that there is not": forged(LINE, BODY, b"\2"),
    "not packed but called so": forged(LINE, BODY, b"\1"),
    "an empty part called packed": forged(LINE, b"", b"\1"),
    "packed to more than is expected": forged(LINE, pa.Codec("lz4_raw").compress(BODY + b"\0", asbytes=True), b"\1"),
    "a part without a kind": (forged(LINE)[0], b"x" * 32),
    **{
        f"no {name}": joined({key: HEADER[key] for key in HEADER if key != name}, BODY)
        for name in HEADER
        if name != "events_per_s"
    },
    "another partition": joined({**HEADER, "partition": 4}, BODY),
    "a newer format": joined({**HEADER, "format": FORMAT + 1}, BODY),
    "a format that is true": joined({**HEADER, "format": True}, BODY),
    "a negative offset": joined({**HEADER, "next_offset": -5}, BODY),
    "an offset that is a text": joined({**HEADER, "next_offset": "5"}, BODY),
    "an offset that is true": joined({**HEADER, "next_offset": True}, BODY),
    "a version that is null": joined({**HEADER, "version": None}, BODY),
    "a speed that is a text": joined({**HEADER, "events_per_s": "fast"}, BODY),
    "huge parts": joined({**HEADER, "part_bytes": 1 << 60}, BODY),
    "arrays that are null": joined({**HEADER, "arrays": None}, BODY),
    "no arrays": joined({**HEADER, "arrays": []}, b""),
    "bytes behind the arrays": joined(HEADER, BODY + b"\0"),
    "bytes missing": joined(HEADER, BODY[:-8]),
    "an array twice": _arrays(lambda layout: layout.append(layout[0])),
    "an array too few": _arrays(lambda layout: layout.pop()),
    "a state nobody knows": _arrays(lambda layout: layout[0].__setitem__(0, "spy")),
    "objects": _arrays(lambda layout: layout[0].__setitem__(2, "O")),
    "huge items": _arrays(lambda layout: layout[0].__setitem__(2, "V1000000000000")),
    "another type of the same size": _arrays(lambda layout: layout[0].__setitem__(2, "<f4")),
    "a negative shape": _arrays(lambda layout: layout[0].__setitem__(3, [-1])),
    "a huge shape": _arrays(lambda layout: layout[0].__setitem__(3, [2**40])),
    "a shape whose product overflows to what is there": _arrays(
        lambda layout: layout[0].__setitem__(3, [2**32, 2**32, 2])
    ),
    "a huge shape of nothing": _arrays(lambda layout: layout[0].__setitem__(3, [0, 2**62, 2**62])),
    "a shape of text": _arrays(lambda layout: layout[0].__setitem__(3, ["2"])),
    "more keys than there is room for": _arrays(
        lambda layout: [row[3].__setitem__(0, 2**40) for row in layout if row[3][:1] == [3]]
    ),
}


@pytest.mark.parametrize("name", FORGED)
def test_what_is_no_snapshot_of_ours_is_refused(name: str) -> None:
    tracemalloc.start()
    try:
        assert not law(FORGED[name])
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("used", [-1, 0, 2, 4, 5, 2**40])
def test_a_number_of_keys_that_is_not_that_of_the_rows_is_refused(used: int) -> None:
    shard, _ = Shard.restore(FOLDS, PARTITION, snapshot(5))
    body = bytearray(BODY)
    place = next(
        sum(array.nbytes for *_, array in arrays[:at])
        for arrays in [shard.snapshot().arrays]
        for at, (name, field, _) in enumerate(arrays)
        if (name, field) == ("keys", "used")
    )
    body[place : place + 8] = used.to_bytes(8, "little", signed=True)
    assert shard.used == 3
    assert not law(joined(HEADER, bytes(body)))


def test_any_change_keeps_the_law() -> None:
    inputs = restored = 0

    @thorough(HALF // 25 + 1)
    @given(st.integers(0, 2**64))
    def keeps(seed: int) -> None:
        nonlocal inputs, restored
        random = Random(seed)
        for _ in range(25):
            inputs += 1
            restored += law(*any_parts(random))

    keeps()
    assert inputs >= HALF
    assert 0.05 * inputs < restored < 0.6 * inputs  # else this shows nothing


def test_whatever_bytes_reach_the_loader_keep_the_law(tmp_path: Path) -> None:
    guided("snapshot", tmp_path)
