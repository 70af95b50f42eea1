"""Which partition a record belongs to: one rule for `produce` and for the replay of files."""

from __future__ import annotations

from functools import lru_cache

_M = 0x5BD1E995
_SEED = 0x9747B28C
_MASK = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """The unsigned 32-bit hash of Kafka's Java client (org.apache.kafka.common.utils.Utils.murmur2)."""
    length = len(data)
    h = _SEED ^ length
    blocks_end = length & ~3
    for at in range(0, blocks_end, 4):
        k = (int.from_bytes(data[at : at + 4], "little") * _M) & _MASK
        k = ((k ^ (k >> 24)) * _M) & _MASK
        h = ((h * _M) & _MASK) ^ k
    if length > blocks_end:
        h = ((h ^ int.from_bytes(data[blocks_end:], "little")) * _M) & _MASK
    h = ((h ^ (h >> 13)) * _M) & _MASK
    return h ^ (h >> 15)


def partition_of(key: bytes | None, row: int, partitions: int) -> int:
    """The Java client's choice (librdkafka's `murmur2`) for a key; records without a key take turns by `row`."""
    return row % partitions if key is None else _of_key(key, partitions)


@lru_cache(maxsize=1 << 16)
def _of_key(key: bytes, partitions: int) -> int:
    return (murmur2(key) & 0x7FFFFFFF) % partitions
