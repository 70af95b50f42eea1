"""Batches as a Java producer sends them: compressed in one stream, which does not say how long it will be."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Sequence

import pyarrow as pa

from tests.support.waiting import until

CODECS = {"gzip": 1, "lz4": 3, "zstd": 4}
_PRODUCE, _VERSION, _ACKS_ALL = 0, 7, -1  # version 7 is the first that may carry zstd
_NOT_YET = (3, 6)  # unknown topic, not the leader


def send(brokers: str, topic: str, partition: int, batch: bytes) -> int:
    """Has the only broker append a batch to a partition; returns its first offset. Waits while the broker
    does not lead the partition yet."""
    error, first = _NOT_YET[0], -1

    def once() -> None:
        nonlocal error, first
        error, first = _sent(brokers, topic, partition, batch)

    until(lambda: error not in _NOT_YET, once)
    assert error == 0, f"the broker refuses the batch: error {error}"
    return first


def _sent(brokers: str, topic: str, partition: int, batch: bytes) -> tuple[int, int]:
    name = topic.encode()
    body = struct.pack(">hhih", _PRODUCE, _VERSION, 1, -1) + struct.pack(">hhii", -1, _ACKS_ALL, 30_000, 1)
    body += struct.pack(">h", len(name)) + name + struct.pack(">iii", 1, partition, len(batch)) + batch
    host, _, port = brokers.rpartition(":")
    with socket.create_connection((host, int(port)), 30) as broker:
        broker.sendall(struct.pack(">i", len(body)) + body)
        answer = _read(broker, struct.unpack(">i", _read(broker, 4))[0])
    _, _, length = struct.unpack_from(">iih", answer)
    _, _, error, first = struct.unpack_from(">iihq", answer, 10 + length)
    return error, first


def batch(values: Sequence[bytes], codec: str) -> bytes:
    """A batch of records without keys, in format 2."""
    records = b"".join(_record(number, value) for number, value in enumerate(values))
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as stream:
        stream.write(records)
    return framed(sink.getvalue().to_pybytes(), len(values), codec)


def framed(packed: bytes, count: int, codec: str) -> bytes:
    """`packed` as the body of a batch of `count` records, whatever it holds."""
    now = round(time.time() * 1000)
    tail = struct.pack(">hiqqqhii", CODECS[codec], count - 1, now, now, -1, -1, -1, count) + packed
    head = struct.pack(">ibI", -1, 2, _crc32c(tail))
    return struct.pack(">qi", 0, len(head) + len(tail)) + head + tail


def _record(number: int, value: bytes) -> bytes:
    body = b"\0" + _varint(0) + _varint(number) + _varint(-1) + _varint(len(value)) + value + _varint(0)
    return _varint(len(body)) + body


def _varint(number: int) -> bytes:
    number = (number << 1) ^ (number >> 63)
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _entry(value: int) -> int:
    for _ in range(8):
        value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return value


_TABLE = [_entry(value) for value in range(256)]


def _read(broker: socket.socket, count: int) -> bytes:
    data = broker.recv(count, socket.MSG_WAITALL)
    assert len(data) == count, "the broker closed the connection"
    return data
