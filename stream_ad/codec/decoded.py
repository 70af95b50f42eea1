"""What a codec makes of a stretch of a partition's log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from stream_ad.batch import EventBatch, RawBatch, RejectBatch
from stream_ad.protocols import Codec

_HEADERS_EVERY = 64  # rows


def nbytes(raw: RawBatch) -> int:
    """Of keys and values, and about so many of headers: to read the headers of all records takes too long."""
    size = sum(map(len, filter(None, raw.value))) + sum(map(len, filter(None, raw.key)))
    looked_at = range(0, len(raw), _HEADERS_EVERY)
    headers = sum(len(name) + len(value or b"") for row in looked_at for name, value in raw.headers(row))
    return size + headers * len(raw) // max(len(looked_at), 1)


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """The events and rejects of `raw` from `first_offset` up to `next_offset`, not included."""

    raw: RawBatch
    events: EventBatch
    rejects: RejectBatch
    first_offset: int
    next_offset: int
    nbytes: int  # of `raw`

    @classmethod
    def of(cls, codec: Codec, raw: RawBatch) -> Self:
        first_offset = int(raw.offset[0]) if len(raw) else raw.next_offset
        return cls(raw, *codec.decode(raw), first_offset, raw.next_offset, nbytes(raw))

    def split(self, offset: int) -> tuple[Decoded, Decoded]:
        """What lies below `offset`, and the rest. `raw` stays whole in both."""
        cut = int(np.searchsorted(self.events.offset, offset))
        head, rest = self.events.slice(0, cut), self.events.slice(cut, len(self.events))
        before, after = self.rejects.split(offset)
        return (
            Decoded(self.raw, head, before, self.first_offset, offset, self.nbytes),
            Decoded(self.raw, rest, after, offset, self.next_offset, self.nbytes),
        )
