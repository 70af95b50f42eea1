"""The bytes of a snapshot: a head, then the arrays in parts of a bounded size.

The head is `MAGIC`, the SHA-256 of the rest of it, and one line of JSON: format, offset, version of the
model, the settings, the layout of the arrays. A part is a SHA-256, one byte that says how it is packed, and up to
`PART_BYTES` of the arrays. Each checksum covers the one before as well: parts of another snapshot, too few
of them or another order do not pass. Format 1 was the head, a line end and all arrays under one checksum. Before
format 3 the moments of a field had no share of values beyond the gate, before format 4 there was no budget, before
format 6 nothing was kept of how much keys differ in scale, before format 7 nothing of the hours of a day or week,
before format 8 nothing of bursts, and an incident did not know the last row that was not normal, before format 9
nothing of pauses and of how often p-values came true, and the tail of the deviations lay on another scale, before
format 10 the head had no settings.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

FORMAT = 10
MAGIC = b"stream_ad snapshot\n"
PART_BYTES = 1 << 20  # fits into the processor's cache, and into memory that is used again and again
PLAIN, LZ4 = b"\0", b"\1"
WORTHWHILE = 0.9  # packed, a part has to be so much shorter

Array = npt.NDArray[Any]
_HEAD = len(MAGIC) + 32
_DIGEST = 32


class Newer(ValueError):
    """A format that a later version of this program writes."""


class Damaged(ValueError):
    """A checksum that does not match."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is to be written of a shard at one offset; `about` stands in the head."""

    about: Mapping[str, Any]
    arrays: list[tuple[str, str, Array]]  # state, field, contiguous

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for *_, array in self.arrays)

    def parts(self) -> Iterator[bytes]:
        """The head first."""
        layout = [[name, field, array.dtype.str, list(array.shape)] for name, field, array in self.arrays]
        line = orjson.dumps({"format": FORMAT, **self.about, "part_bytes": PART_BYTES, "arrays": layout})
        digest = hashlib.sha256(line).digest()
        yield b"".join([MAGIC, digest, line])
        for piece in _pieces(array for *_, array in self.arrays):
            kind, data = _packed(piece)
            digest = _after(digest, kind, data)
            yield b"".join([digest, kind, data])


@dataclass(frozen=True, slots=True)
class Opened:
    """A head that was read, and the parts that follow."""

    head: dict[str, Any]
    _digest: bytes
    _rest: bytes
    _parts: Iterator[bytes]

    @classmethod
    def of(cls, parts: Iterable[bytes]) -> Opened:
        """Raises `Damaged`, `Newer`, or another `ValueError` for what is no snapshot."""
        following = iter(parts)
        first = next(following, b"")
        if not first.startswith(MAGIC) or len(first) <= _HEAD:
            raise ValueError("not a snapshot of stream_ad")
        digest, (line, _, rest) = first[len(MAGIC) : _HEAD], first[_HEAD:].partition(b"\n")
        known = hashlib.sha256(line).digest() == digest
        head = _parsed(line)
        if type(head.get("format")) is int and head["format"] > FORMAT:
            raise Newer(f"it has format {head['format']} and this program reads up to {FORMAT}: upgrade it")
        if head.get("format") == 1:
            head["arrays"] = [row[:4] for row in head["arrays"]]
        elif not known or rest:
            raise Damaged("its checksum does not match")
        elif head.get("format") not in range(2, FORMAT + 1):
            raise ValueError(f"format {head.get('format')!r:.40}")
        return cls(head, digest, first[_HEAD:] if head["format"] == 1 else b"", following)

    def pour(self, targets: Iterable[Array]) -> None:
        """Fills contiguous arrays with the body. Raises `ValueError` unless it is just as long as they are."""
        flat = [view for target in targets if len(view := np.reshape(target, -1, copy=False).view(np.uint8))]
        left = sum(map(len, flat))
        views = iter(flat)
        room = np.zeros(0, np.uint8)
        for piece in self._body(left):
            while len(piece):
                if not len(room):
                    room = next(views, room)
                    if not len(room):
                        raise ValueError("bytes behind the arrays")
                count = min(len(room), len(piece))
                room[:count] = piece[:count]
                room, piece, left = room[count:], piece[count:], left - count
        if left:
            raise ValueError(f"{left} bytes are missing")

    def _body(self, left: int) -> Iterator[npt.NDArray[np.uint8]]:
        if self.head["format"] == 1:
            yield from self._body_of_1()
            return
        most = self.head["part_bytes"]
        if type(most) is not int or not 0 < most <= 16 * PART_BYTES:
            raise ValueError(f"part_bytes {most!r:.40}")
        digest = self._digest
        for part in self._parts:
            kind, data = part[_DIGEST : _DIGEST + 1], memoryview(part)[_DIGEST + 1 :]
            digest = _after(digest, kind, data)
            if digest != part[:_DIGEST]:
                raise Damaged("its checksum does not match")
            piece = _unpacked(kind, data, min(most, left))
            left -= len(piece)
            yield piece

    def _body_of_1(self) -> Iterator[npt.NDArray[np.uint8]]:
        running = hashlib.sha256(self._rest)
        yield np.frombuffer(self._rest, np.uint8)[self._rest.index(b"\n") + 1 :]
        for part in self._parts:
            running.update(part)
            yield np.frombuffer(part, np.uint8)
        if running.digest() != self._digest:
            raise Damaged("its checksum does not match")


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        head = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise Damaged("its head is no JSON") from None
    if not isinstance(head, dict):
        raise ValueError("its head is no object")
    return head


def _pieces(arrays: Iterable[Array]) -> Iterator[npt.NDArray[np.uint8]]:
    """All bytes in order, `PART_BYTES` at a time."""
    waiting: list[npt.NDArray[np.uint8]] = []
    room = PART_BYTES
    for array in arrays:
        left = np.reshape(array, -1, copy=False).view(np.uint8)
        while len(left):
            waiting.append(left[:room])
            left, room = left[room:], room - len(waiting[-1])
            if not room:
                yield np.concatenate(waiting) if len(waiting) > 1 else waiting[0]
                waiting, room = [], PART_BYTES
    if waiting:
        yield np.concatenate(waiting)


def _after(digest: bytes, kind: bytes, data: bytes | memoryview) -> bytes:
    running = hashlib.sha256(digest + kind)
    running.update(data)
    return running.digest()


@functools.cache
def _lz4() -> Any:
    import pyarrow as pa

    return pa.Codec("lz4_raw")


def _packed(piece: npt.NDArray[np.uint8]) -> tuple[bytes, bytes]:
    short = _lz4().compress(piece, asbytes=True)
    return (LZ4, short) if len(short) < WORTHWHILE * len(piece) else (PLAIN, piece.tobytes())


def _unpacked(kind: bytes, data: memoryview, size: int) -> npt.NDArray[np.uint8]:
    if kind == PLAIN:
        return np.frombuffer(data, np.uint8)
    if kind != LZ4 or not size:
        raise ValueError(f"a part of kind {kind!r} for {size} bytes")
    try:
        return np.frombuffer(_lz4().decompress(data, size), np.uint8)
    except OSError as error:
        raise ValueError(f"a part that cannot be unpacked: {error}") from None
