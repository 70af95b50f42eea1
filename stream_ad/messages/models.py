"""The models in the log: which version judges from which offset on, and the bundles themselves.

The records of `<pipeline>.models` are swaps. Those of `<pipeline>.bundles` are parts of bundles: the
transaction that names a version for the first time carries its bytes as well, so a replay needs the
log alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import orjson

from stream_ad.batch import Message
from stream_ad.protocols import Swap

_PLACE = re.compile(r"\d{1,9}/\d{1,9}", re.ASCII)
PART_BYTES = 60 << 10  # of a value; with its key below the minimum of sink.max_record_bytes


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


def encode_bundle(version: str, blob: bytes) -> list[Message]:
    """The parts of a bundle. A part has the same key each time, so that a compacted topic keeps it once."""
    cuts = range(0, len(blob), PART_BYTES)
    return [
        Message(f"{version}/{number}/{len(cuts)}".encode(), blob[first : first + PART_BYTES], [])
        for number, first in enumerate(cuts, start=1)
    ]


def join_bundle(version: str, records: Iterable[tuple[bytes | None, bytes | None]]) -> bytes | None:
    """The bundle from keys and values of the topic; None where a part is missing. The loader checks the hash."""
    parts: dict[int, bytes] = {}
    count = 0
    for key, value in records:
        name, _, place = (key or b"").decode(errors="replace").partition("/")
        number, _, total = place.partition("/")
        if name == version and value and _PLACE.fullmatch(place):
            parts[int(number)], count = value, int(total)
    if not count or count > len(parts):  # anybody may have written the count: it must not set how long this takes
        return None
    blobs = [parts[number] for number in range(1, count + 1) if number in parts]
    return b"".join(blobs) if len(blobs) == count else None


def by_partition(swaps: Iterable[Swap], partitions: Iterable[int]) -> dict[int, list[Swap]]:
    """Each partition's swaps by offset. Of two at one offset the later record counts: a crash repeated it."""
    last = {(swap.partition, swap.offset): swap for swap in swaps}
    return {part: [last[at] for at in sorted(last) if at[0] == part] for part in partitions}
