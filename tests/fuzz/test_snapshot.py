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
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_ad import build, config
from stream_ad.batch import Scores
from stream_ad.errors import StateError
from stream_ad.shard import MAGIC, Shard
from stream_ad.spec import FeatureSpec
from tests.batches import events
from tests.fuzz.engines import HALF, guided, thorough
from tests.fuzz.poison import changed

REACHED = ("stream_ad.shard", "stream_ad.fold.state")
CONFIG = config.parse(
    {
        "window": {"rows": 2, "max_keys": 4},
        "features": {"numeric": {"a": ["raw", "sum:1h"]}, "categorical": {"c": ["novelty"]}},
        "silence": {"enabled": True},
    }
)
FOLDS = build.folds(CONFIG, FeatureSpec.of(CONFIG))
PARTITION = 3
START = len(MAGIC) + 32
MOST_BYTES = 64 << 20  # of memory, whatever a header asks for


@functools.cache
def snapshot(rows: int) -> bytes:
    shard = Shard(FOLDS, PARTITION, 0, "v1")
    if rows:
        now = 1_767_225_600_000
        log = [(f"k{row % 3}", now + 1000 * row, [float(row)], ["x"]) for row in range(rows)]
        batch = shard.submit(events(log))
        shard.finish(Scores(batch, "v1", np.linspace(0.0, 9.0, len(batch))))
        shard.next_offset = rows
    return shard.snapshot()


def split(blob: bytes) -> tuple[dict[str, Any], bytes]:
    line, _, body = blob[START:].partition(b"\n")
    return orjson.loads(line), body


def forged(content: bytes) -> bytes:
    """With the checksum that it should have."""
    return MAGIC + hashlib.sha256(content).digest() + content


def joined(header: Any, body: bytes) -> bytes:
    return forged(orjson.dumps(header) + b"\n" + body)


def law(blob: bytes) -> bool:
    """Whether it was restored."""
    try:
        shard, said = Shard.restore(FOLDS, PARTITION, blob), ""
    except StateError as error:
        shard, said = None, str(error)
    if shard is None:
        assert said.startswith(f"partition {PARTITION}: "), said
        assert len(said) < 500
        return False
    (header, body), (again, body_again) = split(blob), split(shard.snapshot())
    assert body == body_again
    # arrays of no bytes may stand in any order
    assert {str(row) for row in header["arrays"]} == {str(row) for row in again["arrays"]}
    assert all(header[name] == again[name] for name in again if name != "arrays")
    assert (shard.next_offset, shard.version, shard.saved_offset) == (
        header["next_offset"],
        header["version"],
        shard.next_offset,
    )
    assert 0 <= shard.used <= FOLDS.capacity
    return True


def one(data: bytes) -> None:
    kind, rest = data[:1], data[1:]
    law(forged(rest) if kind == b"\0" else rest)


def seeds() -> list[bytes]:
    return [b"\0" + snapshot(rows)[START:] for rows in (0, 5)] + [b"\1" + snapshot(5)]


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


def any_blob(random: Random) -> bytes:
    """A snapshot changed at one place, its checksum usually made right again."""
    whole = snapshot(random.choice([0, 1, 5]))
    way = random.random()
    if way < 0.15:
        return changed(whole, random)
    if way < 0.3:
        return forged(changed(whole[START:], random))
    header, body = split(whole)
    header = copy.deepcopy(header)
    if way < 0.45:
        at = random.randrange(len(body) + 1)
        put = random.choice([b"", random.randbytes(8), b"\xff" * 8, bytes(8)])
        return joined(header, body[:at] + put + body[at + random.choice([0, len(put)]) :])
    if way < 0.6:
        name = random.choice(list(header))
        header[name] = random.choice(ODD)
        if random.random() < 0.3:
            del header[name]
    else:
        layout = header["arrays"]
        at = random.randrange(len(layout))
        if random.random() < 0.8:
            layout[at][random.randrange(5)] = random.choice(ODD)
        else:
            random.choice([layout.reverse, lambda: layout.append(layout[at]), lambda: layout.pop(at)])()
    return joined(header, body)


def test_a_snapshot_is_restored_to_the_bit() -> None:
    for rows in (0, 1, 5):
        shard = Shard.restore(FOLDS, PARTITION, snapshot(rows))
        assert shard.snapshot() == snapshot(rows)
        assert shard.used == min(rows, 3)


def _arrays(change: Any) -> bytes:
    header, body = split(snapshot(5))
    header = copy.deepcopy(header)
    change(header["arrays"])
    return joined(header, body)


HEADER, BODY = split(snapshot(5))
FORGED = {
    "empty": b"",
    "the magic alone": MAGIC,
    "cut short": snapshot(5)[:-1],
    "one bit wrong": snapshot(5)[:-1] + bytes([snapshot(5)[-1] ^ 1]),
    "a header that is no JSON": forged(b"{\n" + BODY),
    "a header that is not UTF-8": forged(b'{"\xff":1}\n' + BODY),
    "a header that is nested 10,000 deep": forged(b"[" * 10_000 + b"\n" + BODY),
    "a header that is a list": joined([], BODY),
    "no end of the header": forged(orjson.dumps(HEADER)),
    "a pickle": forged(b"\x80\x04\x95\n"),
    **{f"no {name}": joined({key: HEADER[key] for key in HEADER if key != name}, BODY) for name in HEADER},
    "another partition": joined({**HEADER, "partition": 4}, BODY),
    "another format": joined({**HEADER, "format": 2}, BODY),
    "a negative offset": joined({**HEADER, "next_offset": -5}, BODY),
    "an offset that is a text": joined({**HEADER, "next_offset": "5"}, BODY),
    "an offset that is true": joined({**HEADER, "next_offset": True}, BODY),
    "a version that is null": joined({**HEADER, "version": None}, BODY),
    "arrays that are null": joined({**HEADER, "arrays": None}, BODY),
    "no arrays": joined({**HEADER, "arrays": []}, b""),
    "bytes behind the arrays": joined(HEADER, BODY + b"\0"),
    "bytes missing": joined(HEADER, BODY[:-8]),
    "a negative position": _arrays(lambda layout: layout[1].__setitem__(4, -8)),
    "a position far outside": _arrays(lambda layout: layout[1].__setitem__(4, 2**62)),
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
    shard = Shard.restore(FOLDS, PARTITION, snapshot(5))
    body = bytearray(BODY)
    place = next(at for name, field, _, _, at in HEADER["arrays"] if (name, field) == ("keys", "used"))
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
            restored += law(any_blob(random))

    keeps()
    assert inputs >= HALF
    assert 0.05 * inputs < restored < 0.6 * inputs  # else this shows nothing


def test_whatever_bytes_reach_the_loader_keep_the_law(tmp_path: Path) -> None:
    guided("snapshot", tmp_path)
