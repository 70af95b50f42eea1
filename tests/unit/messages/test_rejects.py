"""Rejects as messages: the record as it was, or what fits of it."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from stream_ad.batch import RawBatch, RejectBatch
from stream_ad.messages import rejects as reject
from tests.support.alerts import size


def test_a_reject_keeps_the_record_and_says_why():
    headers = {0: [], 1: [("trace", b"7"), ("reject_code", b"old"), ("empty", None)]}
    raw = RawBatch(
        "cards", 2, np.array([5, 6]), np.array([1, 2]), [b"a", None], [b"{}", b"\xff{"], headers.__getitem__, 7
    )
    (message,) = reject.encode(RejectBatch(raw, [1], ["bad_json: malformed (byte 0)"]), 65_536)
    assert (message.key, message.value) == (None, b"\xff{")
    assert message.headers == [
        ("trace", b"7"),
        ("empty", None),
        ("reject_code", b"bad_json"),
        ("reject_reason", b"bad_json: malformed (byte 0)"),
        ("reject_topic", b"cards"),
        ("reject_partition", b"2"),
        ("reject_offset", b"6"),
    ]


def rejected(key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]], most_bytes: int):
    raw = RawBatch("cards", 2, np.array([6]), np.array([1]), [key], [value], lambda row: headers, 7)
    (message,) = reject.encode(RejectBatch(raw, [0], ["bad_json: malformed (byte 0)"]), most_bytes)
    return message, dict(message.headers)


def test_a_reject_that_no_broker_would_take_is_cut_and_says_so():
    value = b"x" * 1_000_000
    message, told = rejected(b"k", value, [("trace", b"7")], 900_000)
    assert size(message) <= 900_000
    assert len(message.value) > 890_000
    assert value.startswith(message.value)
    assert (message.key, told["trace"]) == (b"k", b"7")
    assert (told["reject_offset"], told["reject_code"]) == (b"6", b"bad_json")
    assert told["reject_cut"] == b"value"
    assert told["reject_value_bytes"] == b"1000000"
    assert told["reject_value_sha256"] == hashlib.sha256(value).hexdigest().encode()


@pytest.mark.parametrize("key", [None, b"", b"k" * 1024, b"k" * 1025, b"k" * 10_000_000])
@pytest.mark.parametrize("value", [None, b"", b"v" * 64_000, b"v" * 65_000, b"v" * 10_000_000])
@pytest.mark.parametrize(
    "headers", [[], [("h", b"v" * 64_000)], [("h" * 70_000, None)], [("h", b"")] * 5000, [("h", b"v")]]
)
def test_a_reject_always_fits(key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]]):
    message, told = rejected(key, value, headers, 65_536)
    assert size(message) + 16 * len(message.headers) <= 65_536
    whole = {"key": message.key == key, "value": message.value == value, "headers": message.headers[:1] == headers[:1]}
    cut = told.get("reject_cut", b"").decode().split()
    assert cut == [part for part in ("key", "headers", "value") if not whole[part] and (part != "headers" or headers)]
    assert (message.key is None, message.value is None) == (key is None, value is None)
    if all(whole.values()):
        assert "reject_cut" not in told


def test_a_reject_that_is_rejected_again_does_not_grow():
    first, _ = rejected(b"k", b"x" * 1_000_000, [("trace", b"7")], 900_000)
    second, _ = rejected(first.key, first.value, first.headers, 900_000)
    assert size(second) <= size(first)
