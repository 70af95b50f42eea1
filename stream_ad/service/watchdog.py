"""Which partitions stand still: decided from what is known of them at each look, with the time passed in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

TOGETHER = 3  # so many times the patience where nothing moves: a group that settles stands still as a whole
QUEUED = 500_000  # events that may wait before a partition's next one: what the client has fetched, and the reader's
MOST_DOUBLINGS = 7
NEVER_S = float("-inf")


@dataclass(frozen=True, slots=True)
class Stall:
    """A partition with events to judge that does not judge them."""

    partition: int
    position: int
    lag: int
    standing_s: float


@dataclass(frozen=True, slots=True)
class Verdict:
    stalls: list[Stall]
    restart: bool  # the worker is to give up its partitions and start anew
    stuck: bool  # it was told so and has not done it: only its end helps


@dataclass(slots=True)
class _Watched:
    position: int
    end: int
    since_s: float  # when it last moved, or had nothing to do
    judged: int  # events of all our partitions up to then
    moved_s: float = NEVER_S
    ended_s: float = NEVER_S  # when it last had come to where its end was a look before
    restarts: int = 0  # without getting beyond `mark`
    mark: int = -1


@dataclass(slots=True)
class Watchdog:
    """A partition whose position stays for `patience_s` below the end of what can be read, while another
    one moves, is stalled; where none moves, after `TOGETHER` times as long.

    A worker that has more to do than it can has its partitions wait for each other. So another one of
    ours counts only if it caught up meanwhile, or once more was judged than can have been queued.

    Ends are those of committed records: what an open transaction of the input hides is no lag. Any
    change of a position is a move, also the one back to a snapshot. Restarts that do not help come
    at intervals that double, until the partition gets further than where it stood.
    """

    patience_s: float
    _ours: dict[int, _Watched] = field(default_factory=dict)
    _present: set[int] = field(default_factory=set)
    _others: dict[int, int] = field(default_factory=dict)
    _others_moved_s: float = NEVER_S
    _judged: int = 0
    _asked_s: float | None = None

    def look(
        self, now_s: float, positions: Mapping[int, int], ends: Mapping[int, int], others: Mapping[int, int]
    ) -> Verdict:
        """`positions`: the next offset to judge of each of our partitions (-1 = not known yet); `ends`: the
        offset after the last committed record, where known; `others`: what the group has committed elsewhere."""
        for partition, position in positions.items():
            self._note(now_s, partition, position, ends.get(partition, -1))
        self._present = set(positions)
        if any(self._others.get(partition, offset) != offset for partition, offset in others.items()):
            self._others_moved_s = now_s
        self._others = dict(others)
        stalls = [stall for partition in sorted(positions) if (stall := self._stall(now_s, partition, ends))]
        restart = self._asked_s is None and any(self._may_restart(stall) for stall in stalls)
        if restart:
            self._asked_s = now_s
            for stall in stalls:
                watched = self._ours[stall.partition]
                watched.restarts, watched.mark = watched.restarts + 1, stall.position
        stuck = self._asked_s is not None and now_s - self._asked_s >= self.patience_s
        return Verdict(stalls, restart, stuck)

    def blind(self, now_s: float) -> None:
        """The brokers do not answer: nothing can be expected to move, and all patience begins anew."""
        for watched in self._ours.values():
            watched.since_s = now_s
        if self._asked_s is not None:
            self._asked_s = now_s

    def restarted(self) -> None:
        """The worker has given up all partitions: it was not stuck."""
        self._asked_s = None
        self._present.clear()

    def _note(self, now_s: float, partition: int, position: int, end: int) -> None:
        watched = self._ours.get(partition)
        if watched is None:
            self._ours[partition] = _Watched(position, end, now_s, self._judged)
            return
        if position > watched.mark:
            watched.restarts = 0
        if position >= watched.end:
            watched.ended_s = now_s
        watched.end = end
        moved = position != watched.position
        if moved:
            self._judged += max(0, position - watched.position)
            watched.position, watched.moved_s = position, now_s
        if moved or max(position, 0) >= end or partition not in self._present:
            watched.since_s, watched.judged = now_s, self._judged

    def _stall(self, now_s: float, partition: int, ends: Mapping[int, int]) -> Stall | None:
        watched = self._ours[partition]
        beside = [self._ours[other] for other in self._present - {partition}]
        moving = [other for other in beside if now_s - other.moved_s <= self.patience_s]
        caught_up = any(watched.since_s < min(other.moved_s, other.ended_s) for other in moving)
        if moving and not caught_up and self._judged - watched.judged < QUEUED:
            return None
        alone = moving or now_s - self._others_moved_s <= self.patience_s
        standing_s = now_s - watched.since_s
        if standing_s < self.patience_s * (1 if alone else TOGETHER):
            return None
        return Stall(partition, watched.position, ends.get(partition, 0) - max(watched.position, 0), standing_s)

    def _may_restart(self, stall: Stall) -> bool:
        doublings = min(self._ours[stall.partition].restarts, MOST_DOUBLINGS)
        return stall.standing_s >= self.patience_s * (1 << doublings)
