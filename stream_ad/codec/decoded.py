"""What a codec makes of a stretch of a partition's log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from stream_ad.batch import EventBatch, RawBatch, RejectBatch
from stream_ad.protocols import Codec


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """The events and rejects of `raw` from `first_offset` up to `next_offset`, not included."""

    raw: RawBatch
    events: EventBatch
    rejects: RejectBatch
    first_offset: int
    next_offset: int

    @classmethod
    def of(cls, codec: Codec, raw: RawBatch) -> Self:
        first_offset = int(raw.offset[0]) if len(raw) else raw.next_offset
        return cls(raw, *codec.decode(raw), first_offset, raw.next_offset)

    def split(self, offset: int) -> tuple[Decoded, Decoded]:
        """What lies below `offset`, and the rest. `raw` stays whole in both."""
        cut = int(np.searchsorted(self.events.offset, offset))
        head, rest = self.events.slice(0, cut), self.events.slice(cut, len(self.events))
        before, after = self.rejects.split(offset)
        return (
            Decoded(self.raw, head, before, self.first_offset, offset),
            Decoded(self.raw, rest, after, offset, self.next_offset),
        )
