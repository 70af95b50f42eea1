"""A partition's life in this worker, as named states.

docs/partition-states.md tells what is kept where in each state; a test holds that page and `TRANSITIONS` together.
An `Assignment` is changed by the pipeline's thread only; other threads read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from stream_ad.batch import RawBatch
from stream_ad.errors import TransactionFailed
from stream_ad.protocols import Swap
from stream_ad.state.shard import UNKNOWN, Shard
from stream_ad.state.snapshot import Snapshot


class State(Enum):
    """Of a partition that the group has assigned to this worker."""

    RESTORING = "its shard is on the way from the store"
    READY = "its shard waits for its turn to be folded on"
    REPLAYING = "the log is folded up to the committed offset, silently"
    JUDGING = "the log is folded, and alerts are published"
    HANDED_OVER = "it was given up in order; its last snapshot may still be written"
    LOST = "another worker took it; nothing may be written"


TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.RESTORING: frozenset({State.READY, State.HANDED_OVER, State.LOST}),
    State.READY: frozenset({State.REPLAYING, State.JUDGING, State.HANDED_OVER, State.LOST}),
    State.REPLAYING: frozenset({State.JUDGING, State.HANDED_OVER, State.LOST}),
    State.JUDGING: frozenset({State.HANDED_OVER, State.LOST}),
    State.HANDED_OVER: frozenset(),
    State.LOST: frozenset(),
}
FOLDING = frozenset({State.REPLAYING, State.JUDGING})
SAVED = FOLDING | {State.HANDED_OVER}


class WrongState(Exception):
    """What was asked of an assignment is impossible in its state: a bug of the caller."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What the restoring thread brings."""

    shard: Shard
    saved_offset: int  # of the snapshot that it was taken from; `UNKNOWN` = none
    events_per_s: int  # at which the process that saved the snapshot folded; 0 = not known
    mute_until: int
    swaps: list[Swap]
    announcement: Swap | None


class Assignment:
    """One partition of this worker, from `assigned` to `revoked` or `lost`.

    Alerts caused below `mute_until`, the offset that was committed at the assignment, were published before and
    stay silent. `swaps` are those that the log holds for offsets still ahead. `announcement` is a swap that the log
    does not know yet. `owner` is our number at the store, None where we have to claim one.
    """

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.state = State.RESTORING
        self.mute_until = 0
        self.swaps: list[Swap] = []
        self.announcement: Swap | None = None
        self.owner: int | None = None
        self.saved_offset = UNKNOWN
        self.tried_offset = UNKNOWN  # the highest that is saved, or was refused because a newer one is
        self.events_per_s = 0
        self.committed_s: float | None = None  # wall clock of the last commit
        self._shard: Shard | None = None
        self._read_to = UNKNOWN  # the first offset that was not read yet

    @property
    def shard(self) -> Shard:
        """Raises `WrongState` while it is restored."""
        if self._shard is None:
            raise WrongState(f"partition {self.partition}: there is no shard while it is {self.state.name}")
        return self._shard

    # ── transitions ──────────────────────────────────────────────────────────────────────

    def restored(self, result: Restored) -> None:
        """Takes what the restoring thread has brought. By `Recovery`."""
        self._become(State.READY)
        self._shard, self.mute_until, self.swaps = result.shard, result.mute_until, result.swaps
        self.announcement, self.events_per_s = result.announcement, result.events_per_s
        self.saved_offset, self.tried_offset = result.saved_offset, result.shard.next_offset
        self._read_to = result.shard.next_offset

    def begin(self) -> None:
        """It is this partition's turn to be folded on. By `Recovery`."""
        self._become(State.REPLAYING if self.to_replay else State.JUDGING)

    def judged(self, next_offset: int) -> None:
        """The log is folded up to `next_offset`. By the pipeline."""
        self._require(FOLDING)
        self.shard.next_offset = next_offset
        if self.state is State.REPLAYING and next_offset >= self.mute_until:
            self._become(State.JUDGING)

    def hand_over(self) -> None:
        """It is given up in order. By the pipeline, when all that was read of it is committed."""
        self._become(State.HANDED_OVER)

    def lose(self) -> None:
        """It is another worker's already. By the pipeline."""
        self._become(State.LOST)

    def _become(self, state: State) -> None:
        if state not in TRANSITIONS[self.state]:
            raise WrongState(f"partition {self.partition}: cannot be {state.name} after {self.state.name}")
        self.state = state

    def _require(self, states: frozenset[State]) -> None:
        if self.state not in states:
            raise WrongState(f"partition {self.partition}: impossible while it is {self.state.name}")

    # ── questions ────────────────────────────────────────────────────────────────────────

    @property
    def folds(self) -> bool:
        """Its log is read and folded."""
        return self.state in FOLDING

    @property
    def replays(self) -> bool:
        return self.state is State.REPLAYING

    @property
    def to_replay(self) -> int:
        """Offsets that are still to be folded silently."""
        at = self.shard.next_offset
        return max(0, self.mute_until - at) if at != UNKNOWN else 0

    @property
    def unsaved(self) -> int:
        """Offsets that a new snapshot would have and the latest one has not."""
        at = self.shard.next_offset
        return at - max(self.saved_offset, self.tried_offset, 0) if at != UNKNOWN else 0

    @property
    def settled(self) -> bool:
        """The log knows which version judges: only then another one may follow it."""
        return self.state is State.JUDGING and self.shard.next_offset != UNKNOWN and self.announcement is None

    @property
    def versions(self) -> set[str]:
        """The one that judges, and those that the log swaps to further on."""
        return {self.shard.version, *(swap.version for swap in self.swaps)}

    # ── what the states are about ────────────────────────────────────────────────────────

    def read(self, raw: RawBatch) -> None:
        """Notes that `raw` is folded next. The first batch of a partition that starts wherever the source says tells
        where that is. Raises `TransactionFailed` where `raw` repeats what was read: nothing may be folded twice."""
        self._require(FOLDING)
        first = int(raw.offset[0]) if len(raw) else raw.next_offset
        if self.shard.next_offset == UNKNOWN:
            self.shard.next_offset = first
            self.announce()
        if first < max(self._read_to, self.shard.next_offset):
            raise TransactionFailed(
                f"partition {self.partition}: the source goes back to offset {first}, it had come to {self._read_to}"
            )
        self._read_to = raw.next_offset

    def announce(self) -> None:
        """The next transaction tells the log which version judges from here on."""
        self.announcement = Swap(self.partition, self.shard.next_offset, self.shard.version)

    def snapshot(self, copied: bool = False) -> Snapshot:
        """As `Shard.snapshot`. Raises `WrongState` where nothing of the partition may be written."""
        self._require(SAVED)
        return self.shard.snapshot(copied, self.events_per_s)
