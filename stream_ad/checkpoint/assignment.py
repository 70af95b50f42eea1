"""A partition's life in this worker, as named states.

docs/partition-states.md says what is kept where in each state; a test compares that page with `TRANSITIONS`.
Only the pipeline's thread changes an `Assignment`; other threads read it.
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
    """A call that is impossible in the assignment's state: a bug of the caller."""


@dataclass(frozen=True, slots=True)
class Restored:
    """The result of the restoring thread."""

    shard: Shard
    saved_offset: int  # of the snapshot; `UNKNOWN` = none
    events_per_s: int  # the rate of the process that saved the snapshot; 0 = not known
    mute_until: int
    swaps: list[Swap]
    announcement: Swap | None


class Assignment:
    """One partition of this worker, from `assigned` to `revoked` or `lost`.

    `mute_until` is the offset that was committed at the assignment; alerts caused below it were published before
    and are dropped. `swaps` are the swaps that the log holds for later offsets. `announcement` is a swap that the log
    does not hold yet. `owner` is this worker's number at the store; None = it has to claim one.
    """

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.state = State.RESTORING
        self.mute_until = 0
        self.swaps: list[Swap] = []
        self.announcement: Swap | None = None
        self.owner: int | None = None
        self.saved_offset = UNKNOWN
        self.tried_offset = UNKNOWN  # the highest that is saved, or was refused because the store holds a newer one
        self.events_per_s = 0
        self.committed_s: float | None = None  # wall clock of the last commit
        self._shard: Shard | None = None
        self._read_to = UNKNOWN  # the first offset that was not read yet

    @property
    def shard(self) -> Shard:
        """Raises `WrongState` while the partition is restored."""
        if self._shard is None:
            raise WrongState(f"partition {self.partition}: there is no shard while it is {self.state.name}")
        return self._shard

    # ── transitions ──────────────────────────────────────────────────────────────────────

    def restored(self, result: Restored) -> None:
        """RESTORING to READY, with the result of the restoring thread. Called by `Recovery`."""
        self._become(State.READY)
        self._shard, self.mute_until, self.swaps = result.shard, result.mute_until, result.swaps
        self.announcement, self.events_per_s = result.announcement, result.events_per_s
        self.saved_offset, self.tried_offset = result.saved_offset, result.shard.next_offset
        self._read_to = result.shard.next_offset

    def begin(self) -> None:
        """READY to REPLAYING or JUDGING. Called by `Recovery`."""
        self._become(State.REPLAYING if self.to_replay else State.JUDGING)

    def judged(self, next_offset: int) -> None:
        """Notes that everything below `next_offset` is judged. Called by the pipeline."""
        self._require(FOLDING)
        self.shard.next_offset = next_offset
        if self.state is State.REPLAYING and next_offset >= self.mute_until:
            self._become(State.JUDGING)

    def hand_over(self) -> None:
        """To HANDED_OVER. The pipeline calls it when everything read of the partition is committed."""
        self._become(State.HANDED_OVER)

    def lose(self) -> None:
        """To LOST: the partition belongs to another worker already. Called by the pipeline."""
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
        """Whether its log is read and folded."""
        return self.state in FOLDING

    @property
    def replays(self) -> bool:
        return self.state is State.REPLAYING

    @property
    def to_replay(self) -> int:
        """How many offsets are still to be folded silently."""
        at = self.shard.next_offset
        return max(0, self.mute_until - at) if at != UNKNOWN else 0

    @property
    def unsaved(self) -> int:
        """How many offsets the latest snapshot is behind."""
        at = self.shard.next_offset
        return at - max(self.saved_offset, self.tried_offset, 0) if at != UNKNOWN else 0

    @property
    def settled(self) -> bool:
        """Whether the log holds the version that judges: only then another swap may follow."""
        return self.state is State.JUDGING and self.shard.next_offset != UNKNOWN and self.announcement is None

    @property
    def versions(self) -> set[str]:
        """The version that judges, and those of later swaps in the log."""
        return {self.shard.version, *(swap.version for swap in self.swaps)}

    # ── what the states are about ────────────────────────────────────────────────────────

    def read(self, raw: RawBatch) -> None:
        """Notes that `raw` is folded next. Where the source chose the start, the first batch sets `next_offset`.
        Raises `TransactionFailed` where `raw` repeats offsets that were read: nothing may be folded twice."""
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
        """Has the next transaction write to the log which version judges from here on."""
        self.announcement = Swap(self.partition, self.shard.next_offset, self.shard.version)

    def snapshot(self, copied: bool = False) -> Snapshot:
        """As `Shard.snapshot`. Raises `WrongState` in a state in which this worker must not save the partition."""
        self._require(SAVED)
        return self.shard.snapshot(copied, self.events_per_s)
