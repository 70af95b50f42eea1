"""Assignments in the state that a test is about."""

from __future__ import annotations

from stream_ad.checkpoint.assignment import Assignment, Restored
from stream_ad.protocols import BUILT_IN
from stream_ad.state.shard import UNKNOWN, Folds, Shard


def ready(folds: Folds, partition: int = 0, next_offset: int = 0, mute_until: int = 0) -> Assignment:
    """Without a snapshot."""
    found = Assignment(partition)
    shard = Shard(folds, partition, next_offset, BUILT_IN)
    found.restored(Restored(shard, UNKNOWN, 0, mute_until, [], None))
    return found


def judging(folds: Folds, partition: int = 0, next_offset: int = 0) -> Assignment:
    """Folded from offset 0 to `next_offset`, none of which is saved."""
    found = ready(folds, partition)
    found.begin()
    found.judged(next_offset)
    return found
