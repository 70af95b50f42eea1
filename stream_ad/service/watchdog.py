"""Finds partitions that stand still, from their positions at each look. The caller passes the time in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

TOGETHER = 3  # times the patience, where no partition moves: in a rebalance all may stand still
QUEUED = 500_000  # events that client and reader may queue before a partition's next one
MOST_DOUBLINGS = 7
NEVER_S = float("-inf")


@dataclass(frozen=True, slots=True)
class Stall:
    """A partition that has events to judge and does not move."""

    partition: int
    position: int
    lag: int
    standing_s: float


@dataclass(frozen=True, slots=True)
class Verdict:
    stalls: list[Stall]
    restart: bool  # the worker has to give up its partitions and start anew
    stuck: bool  # the worker was asked to, and has not: only ending it helps


@dataclass(slots=True)
class _Watched:
    position: int
    end: int
    since_s: float  # when it last moved, or had nothing to do
    judged: int  # events that all our partitions had judged by then
    moved_s: float = NEVER_S
    ended_s: float = NEVER_S  # when it had last reached the end that the look before saw
    restarts: int = 0  # since it last got beyond `mark`
    mark: int = -1  # its position at the last restart


@dataclass(slots=True)
class Watchdog:
    """Decides which partitions are stalled, and when the worker has to start anew.

    A partition is stalled when its position stays below the end of the readable records for `patience_s` while
    another partition moves, or for `TOGETHER` times as long while none moves.

    In a worker that is overloaded, partitions wait for each other. So another partition of ours counts as moving
    only if it has caught up meanwhile, or once we have judged more events than can have been queued.

    Ends are those of committed records: what an open transaction of the input hides is no lag. Any change of a
    position is a move, also the one back to a snapshot. Restarts that do not help come at intervals that double,
    until the partition gets beyond where it stood.
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
        offset after the last committed record, where known; `others`: what the group has committed of the
        partitions of other workers."""
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
        """The brokers do not answer, so no partition can move: all waiting times begin anew."""
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
        neighbours = [self._ours[other] for other in self._present - {partition}]
        moving = [other for other in neighbours if now_s - other.moved_s <= self.patience_s]
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
