"""The records of `<pipeline>.models`: which version judges a partition from which offset on."""

from __future__ import annotations

import orjson

from stream_ad.batch import Message
from stream_ad.protocols import Swap


def encode_swap(swap: Swap) -> Message:
    value = {"partition": swap.partition, "offset": swap.offset, "version": swap.version}
    return Message(str(swap.partition).encode(), orjson.dumps(value), [])


def decode_swap(value: bytes) -> Swap:
    """Raises `ValueError`."""
    try:
        data = orjson.loads(value)
        return Swap(int(data["partition"]), int(data["offset"]), str(data["version"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a swap record: {value[:80]!r}") from error
