"""How far a worker has come with a partition, for whoever watches it from another thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from stream_ad.checkpoint.assignment import Assignment


@dataclass(frozen=True, slots=True)
class Progress:
    position: int  # the next offset to judge; -1 = not known yet
    saved: int  # the snapshot's; -1 = none
    latest_ms: int  # highest event time; far below zero before the first event
    committed_s: float | None  # wall clock of the last commit
    keys: int

    @classmethod
    def of(cls, assignment: Assignment) -> Self:
        """`assignment` must be restored."""
        shard = assignment.shard
        return cls(shard.next_offset, assignment.saved_offset, shard.latest_ms, assignment.committed_s, shard.used)
