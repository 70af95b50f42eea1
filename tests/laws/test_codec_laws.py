"""Isolation, and the agreement of the fast decoder with the plain one, on any bytes."""

from __future__ import annotations

import itertools
import sys
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ad.batch import RawBatch
from stream_ad.codec.json import JsonCodec
from stream_ad.config import Record

ALL_TIMES = {"timestamp": "t", "earliest": "1970-01-01", "latest": "2262-01-01"}
RECORDS = [Record(key="k", timestamp_format=form, **ALL_TIMES) for form in ("iso", "s", "ns")]
RECORDS.append(Record(numbers_as_text=True, timestamp="t", timestamp_format="ms"))
FIELDS = (["a", "d.x"], ["c", "d.e.f"])
CODECS = [JsonCodec(record, *FIELDS) for record in RECORDS]
PLAIN = [JsonCodec(record, *FIELDS) for record in RECORDS]
for codec in PLAIN:
    codec._lines = None


def outcomes(codec: JsonCodec, values: list[bytes | None]) -> list[tuple[Any, ...]]:
    """What became of every record, bit for bit."""
    n = len(values)
    before = list(values)
    raw = RawBatch("t", 0, np.arange(n), np.full(n, 1_700_000_000_000), [b"key"] * n, values, lambda row: [], n)
    events, rejects = codec.decode(raw)
    assert values == before
    assert (np.diff(events.row) > 0).all()
    assert not np.isinf(events.values).any()
    found: dict[int, tuple[Any, ...]] = {
        row: (reason,) for row, reason in zip(rejects.row, rejects.reason, strict=True)
    }
    for at, row in enumerate(events.row.tolist()):
        assert row not in found
        cats = tuple(column[at] for column in events.cats)
        bits = events.values[at].tobytes() + events.codes[at].tobytes()
        found[row] = (int(events.ts_ms[at]), events.key[at], bits, cats)
    assert sorted(found) == list(range(n))
    return [found[row] for row in range(n)]


ODD_NUMBERS = (
    b"0 -0 -0.0 1e5 1E+300 5e-324 2e-324 1e308 1.8e308 1e309 1e0309 -1E+999 0e999 01 -01 1. .5 +1 - 1e 1e+ 0x1 1_0 --1 "
    b"1-1 9007199254740993 9223372036854775807 9223372036854775808 -9223372036854775809 18446744073709551615 "
    b"18446744073709551616 9214646400 9214646399.9999999 NaN -Infinity Infinity nan"
).split(b" ")
ODD_TEXTS = b"\\n \\/ \\u0061 \\ud83d\\ude00 \\u0000 \xe2\x80\xa8 \x7f { ] : ,1e999".split(b" ")
BAD_TEXTS = b"\\ud800 \\udc00 \\udc00\\ud83d \\ud83dx \\u00 \\u+123 \\x \\ \x00 \x1f \t \n \r \xff".split(b" ")
BAD_TEXTS += b"\xed\xa0\x80 \xc0\x80 \xf0\x9f".split(b" ")
WORDS = b"null true false nul nulls True NaN //1\n2 \xef\xbb\xbf1 \x0c1 '1'".split(b" ")
NAMES = b"k t a d x c e f z k t a d x c e f z  \\u0061 d.x \xc3\xa4".split(b" ")
BREAKS = [*BAD_TEXTS, *WORDS, b'"', b"{", b"}", b"[", b"]", b",", b":", b"-", b"1", b"e999", b"9" * 250, b""]


class Writer:
    """Writes JSON that is often good, sometimes odd, sometimes bad."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.one = self.random.choice
        # bad pieces are rare in most documents, so that the fast decoder meets the odd ones
        self.bad = self.one([0.0, 0.0, 0.02, 0.1])

    def record(self) -> bytes | None:
        kind = self.random.random()
        if kind < 0.03:
            return self.one([None, b"", b" ", b"[]", b"null", b"{}", b"{}{}", b"\n", b"{}\n"])
        text = self.event() if kind < 0.7 else self.object(3)
        if kind % 0.1 < 0.02:
            changed = bytearray(text)
            for _ in range(self.random.randint(1, 3)):
                at = self.random.randint(0, len(changed))
                put = (
                    self.one(BREAKS) if self.random.random() < 0.5 else self.random.randbytes(self.random.randint(0, 2))
                )
                changed[at : at + self.random.randint(0, 3)] = put
            return bytes(changed)
        return text

    def event(self) -> bytes:
        key = self.one([b'"key"', b"7", b'"k\xc3\xa4"'])
        time = self.one([b'"2024-01-02T03:04:05.678Z"', b"1700000000", b"1700000000.25", b'"1700000000123"'])
        number = self.one([self.number, self.number, self.value])
        return b'{"k":%b,"t":%b,"a":%b,"d":{"x":%b,"e":{"f":%b}},"c":%b,"z":%b}' % (
            *(key, time, number(), number()),
            *(self.text(), self.one([self.text, self.number])(), self.value()),
        )

    def number(self) -> bytes:
        digits, one = self.random.randint, self.one
        kind = self.random.random()
        if kind < 0.3:
            text = f"{self.random.uniform(-1e3, 1e3):.{digits(0, 20)}g}"
        elif kind < 0.5:
            text = str(digits(-(2 ** digits(1, 70)), 2 ** digits(1, 70)))
        elif kind < 0.8:
            text = one(["", "-"]) + str(digits(0, 10 ** digits(0, 30)))
            text += one(["", "." + "".join(one("0123456789") for _ in range(digits(1, 30)))])
            text += one(["", one("eE") + one(["", "+", "-", "-"]) + str(digits(0, 10 ** digits(1, 3)))])
        elif kind < 0.9:
            text = one(["9" * one([9, 150, 199, 200, 201, 308, 309, 400]), f"1{'0' * digits(0, 320)}e{digits(0, 320)}"])
        else:
            return one(ODD_NUMBERS)
        return text.encode()

    def text(self) -> bytes:
        pieces = [
            self.one([b"a", b"merchant", b"3e100", b" ", b"\xc3\xa4", b"\xf0\x9f\x98\x80", b"-05", b"1"])
            for _ in range(2)
        ]
        if self.random.random() < 0.2:
            pieces.append(self.one(ODD_TEXTS))
        if self.random.random() < self.bad:
            pieces.append(self.one(BAD_TEXTS))
        if self.random.random() < 0.03:
            pieces.append(b"x" * 257)
        self.random.shuffle(pieces)
        return b'"' + b"".join(pieces) + b'"'

    def value(self, depth: int = 2) -> bytes:
        kind = self.random.random()
        if kind < 0.3:
            return self.number()
        if kind < 0.6:
            return self.text()
        if kind < 0.8 or depth == 0:
            return self.one(WORDS if self.random.random() < self.bad else WORDS[:3])
        if kind < 0.9:
            return self.object(depth - 1)
        return b"[" + b",".join(self.value(depth - 1) for _ in range(self.random.randint(0, 3))) + b"]"

    def object(self, depth: int) -> bytes:
        members = [
            self.blank() + b'"%b":%b' % (self.one(NAMES), self.value(depth)) for _ in range(self.random.randint(0, 6))
        ]
        return b"{" + (b"," + self.blank()).join(members) + b"}" + self.blank()

    def blank(self) -> bytes:
        return (
            self.one([b" ", b"\t", b"\r", b"\n", b"\r\n", b"\x0b", b"\xc2\xa0"]) if self.random.random() < 0.03 else b""
        )


def agree(which: int, values: list[bytes | None]) -> int:
    """Checks every record alone and all of them together; how many the fast decoder took."""
    expected = [outcomes(PLAIN[which], [value])[0] for value in values]
    for value, outcome in zip(values, expected, strict=True):
        assert outcomes(CODECS[which], [value]) == [outcome], value
    assert outcomes(CODECS[which], values) == expected
    return sum(CODECS[which].fast([value]) is not None for value in values)


@pytest.mark.parametrize("which", range(len(CODECS)), ids=["iso", "s", "ns", "text"])
def test_the_fast_decoder_agrees_with_the_plain_one_on_json_good_and_bad(which: int) -> None:
    fast = total = 0

    @settings(max_examples=150)
    @given(st.integers(0, 2**64))
    def law(seed: int) -> None:
        nonlocal fast, total
        writer = Writer(seed)
        values = [writer.record() for _ in range(30)]
        total += len(values)
        fast += agree(which, values)

    law()
    assert 0.3 * total < fast < 0.9 * total  # else this shows nothing


@settings(max_examples=400)
@given(st.lists(st.none() | st.binary(max_size=40) | st.text('{}[]",:0123456789.eE+-\\ukdxatn \n').map(str.encode)))
def test_the_fast_decoder_agrees_with_the_plain_one_on_any_bytes(values: list[bytes | None]) -> None:
    agree(0, values)


@settings(max_examples=250)
@given(st.integers(0, 2**64), st.lists(st.integers(0, 10_000), max_size=8))
def test_documents_cut_anywhere_are_not_joined(seed: int, cuts: list[int]) -> None:
    writer = Writer(seed)
    documents = [writer.event() for _ in range(4)]
    text = b"".join(documents)
    # every other cut is between two documents: then an empty record may make up for two in one
    between = list(itertools.accumulate(map(len, documents), initial=0))
    places = sorted(between[cut % 5] if cut % 2 else cut % (len(text) + 1) for cut in cuts)
    agree(0, [text[first:last] for first, last in itertools.pairwise([0, *places, len(text)])])


@settings(max_examples=100)
@given(st.integers(0, 2**64), st.integers(0, 60))
def test_a_batch_may_be_cut_anywhere(seed: int, at: int) -> None:
    writer = Writer(seed)
    values = [writer.record() for _ in range(60)]
    assert outcomes(CODECS[0], values) == outcomes(CODECS[0], values[:at]) + outcomes(CODECS[0], values[at:])


@pytest.mark.parametrize("depth", [900, 998, 1000, 1001, 1020, 1022, 1023, 1024, 1025, 3000])
def test_the_decoders_agree_on_depth_whatever_the_recursion_limit(depth: int) -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        agree(0, [b'{"k":"1","t":"2024-01-01","z":' + b"[" * depth + b"]" * depth + b"}"])
        agree(0, [b'{"k":"1","t":"2024-01-01","d":' + b'{"x":' * depth + b"1" + b"}" * depth + b"}"])
    finally:
        sys.setrecursionlimit(limit)
