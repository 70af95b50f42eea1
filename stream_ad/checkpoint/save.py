"""Saves snapshots in a thread of its own.

The pipeline waits only while the state is copied; packing and sending the copy take ten times as long. The saver sends
one snapshot at a time. It copies committed states only, so whenever a save ends, or fails, the store holds a state
that agrees with the log.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass

from stream_ad import metrics
from stream_ad.checkpoint.assignment import Assignment, State
from stream_ad.checkpoint.throughput import PACE
from stream_ad.config import Redis
from stream_ad.errors import ConnectionFailed
from stream_ad.protocols import StateStore
from stream_ad.state.snapshot import Snapshot

log = logging.getLogger(__name__)

SHARE = 0.05  # of the time at most goes into saving: large states are saved less often
COPIED_BYTES = 256 << 20  # of copies may wait to be sent; one that is larger waits alone
SWAP_S = 10.0  # judging stands still while a swap is saved; so long at most, and a request of the store
SWAP_WAITS_S = 1.0, 600.0  # after a failure the next attempt waits: at first, then twice as long each time, up to
AWAY_S = 1.0  # after a failed save the saver leaves the store alone for so long

Threads = Callable[[str], Executor]


def one_thread(name: str) -> Executor:
    return ThreadPoolExecutor(1, name)


@dataclass(frozen=True, slots=True)
class Sent:
    owner: int
    saved: bool
    spent_s: float


@dataclass(frozen=True, slots=True)
class Sending:
    assignment: Assignment
    next_offset: int
    nbytes: int
    sent: Future[Sent]


class Saver:
    """Saves the partitions of one worker, in the order of the calls. The pipeline's thread calls it."""

    def __init__(
        self,
        states: StateStore,
        config: Redis,
        threads: Threads = one_thread,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._states, self._config, self._pool, self._clock = states, config, threads("save"), clock
        self.store_away = False
        self._sending: deque[Sending] = deque()
        self._waiting: set[int] = set()
        self._round_s = clock()
        self._spent_s = 0.0
        self._failed: tuple[float, str] | None = None
        self._swap_due_s, self._swap_wait_s = clock(), SWAP_WAITS_S[0]
        self._closing = threading.Event()

    def due(self, assignments: Collection[Assignment]) -> list[Assignment]:
        """The assignments to save now: every `snapshot_interval`, or after `snapshot_events`, if there is room for
        copies."""
        self._collect()
        now = self._clock()
        if not self._sending and now - self._round_s >= max(
            self._config.snapshot_interval / 1000, self._spent_s / SHARE
        ):
            self._round_s, self._spent_s = now, 0.0
            self._waiting = {assignment.partition for assignment in assignments if assignment.unsaved}
        if not self.store_away:
            most = self._config.snapshot_events
            self._waiting.update(assignment.partition for assignment in assignments if assignment.unsaved >= most)
        return [one for one in assignments if one.partition in self._waiting and self._can(one)]

    def _can(self, assignment: Assignment) -> bool:
        busy = any(sending.assignment is assignment for sending in self._sending)
        return not busy and assignment.unsaved > 0 and sum(sending.nbytes for sending in self._sending) < COPIED_BYTES

    def save(self, assignment: Assignment) -> None:
        """Begins to save the partition. It does nothing where nothing is new, a save of it is in flight, or
        `COPIED_BYTES` wait."""
        self._waiting.discard(assignment.partition)
        if self._can(assignment):
            self._send(assignment, copied=True)

    def hand_over(self, assignment: Assignment) -> None:
        """Saves a partition that this worker gave up. The next owner waits for this for a short time."""
        self._waiting.discard(assignment.partition)
        if assignment.unsaved:
            self._send(assignment, copied=False)

    def finish(self, assignments: Iterable[Assignment]) -> None:
        """Returns when all partitions are saved, or the store is away."""
        self._drain()
        for assignment in assignments:
            if assignment.unsaved:
                self._send(assignment, copied=False)
                self._drain()
                if self.store_away:
                    return

    def may_swap(self) -> bool:
        """Whether `save_swap` could begin: no other save is under way, and the latest failure is long enough ago."""
        self._collect()
        return not self._sending and self._clock() >= self._swap_due_s

    def save_swap(self, assignment: Assignment) -> bool:
        """Saves at once, even if only the version is new. False: the store is away or takes longer than `SWAP_S`, or
        holds a newer snapshot; this is said, and the next attempt waits."""
        self._drain()
        next_offset = assignment.shard.next_offset
        try:
            until_s = self._clock() + SWAP_S
            sent = self._sent(assignment, assignment.snapshot(), assignment.owner, next_offset, until_s)
        except ConnectionFailed as error:
            self._put_off_swap(assignment, str(error))
            return False
        if sent.saved:
            self._swap_wait_s = SWAP_WAITS_S[0]
        else:
            self._put_off_swap(assignment, "a newer snapshot is there")
        assignment.owner = sent.owner if sent.saved else None
        if sent.saved:
            assignment.saved_offset = next_offset
        return sent.saved

    def _put_off_swap(self, assignment: Assignment, why: str) -> None:
        metrics.SWAP_FAILURES.inc()
        text = "partition %d: the new model waits %.0f s, since its swap cannot be saved; the former one judges on: %s"
        log.warning(text, assignment.partition, self._swap_wait_s, why)
        self._swap_due_s = self._clock() + self._swap_wait_s
        self._swap_wait_s = min(2 * self._swap_wait_s, SWAP_WAITS_S[1])

    def close(self) -> None:
        """Drops what is not sent yet."""
        self._closing.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _send(self, assignment: Assignment, copied: bool) -> None:
        next_offset = assignment.shard.next_offset
        assignment.tried_offset, assignment.events_per_s = next_offset, PACE.per_s or assignment.events_per_s
        snapshot = assignment.snapshot(copied)
        sent = self._pool.submit(self._sent, assignment, snapshot, assignment.owner, next_offset)
        self._sending.append(Sending(assignment, next_offset, snapshot.nbytes, sent))

    def _sent(
        self, assignment: Assignment, snapshot: Snapshot, owner: int | None, next_offset: int, until_s: float = math.inf
    ) -> Sent:
        """Runs in the saving thread; for a swap, in the pipeline's thread while the saving one is idle."""
        begun = self._clock()
        if self._failed is not None and begun - self._failed[0] < AWAY_S:
            raise ConnectionFailed(self._failed[1])
        try:
            self._check(assignment)
            if owner is None:
                owner = self._states.claim(assignment.partition)
            parts = self._checked(assignment, snapshot.parts(), until_s)
            saved = self._states.save(assignment.partition, owner, next_offset, parts)
        except ConnectionFailed as error:
            self._failed = self._clock(), str(error)
            raise
        return Sent(owner, saved, self._clock() - begun)

    def _checked(self, assignment: Assignment, parts: Iterator[bytes], until_s: float) -> Iterator[bytes]:
        for part in parts:
            self._check(assignment)
            if self._clock() > until_s:
                raise ConnectionFailed(f"redis.url: the store takes longer than {SWAP_S:g} s for a snapshot")
            yield part

    def _check(self, assignment: Assignment) -> None:
        """Raises `CancelledError` where the partition is lost, or the saver closes."""
        if self._closing.is_set() or assignment.state is State.LOST:
            raise CancelledError

    def _drain(self) -> None:
        while self._sending:
            self._settle(self._sending.popleft())

    def _collect(self) -> None:
        while self._sending and self._sending[0].sent.done():
            self._settle(self._sending.popleft())

    def _settle(self, sending: Sending) -> None:
        assignment = sending.assignment
        try:
            sent = sending.sent.result()
        except ConnectionFailed as error:
            if not self.store_away:
                log.warning("snapshots wait, scoring goes on: %s", error)
            self.store_away = True
            assignment.tried_offset = assignment.saved_offset
        else:
            if self.store_away:
                log.info("snapshots are saved again")
            self.store_away = False
            self._spent_s += sent.spent_s
            # a worker that commits owns the partition: it claims a new number if another worker has claimed one
            assignment.owner = sent.owner if sent.saved else None
            if sent.saved:
                assignment.saved_offset = max(assignment.saved_offset, sending.next_offset)
            else:
                level = logging.WARNING if assignment.state is State.JUDGING else logging.DEBUG
                text = "partition %d: a newer snapshot is there, ours at %d is not saved"
                log.log(level, text, assignment.partition, sending.next_offset)
        metrics.STORE_UP.set(0 if self.store_away else 1)
        if assignment.folds:
            unsaved = assignment.shard.next_offset - max(0, assignment.saved_offset)
            metrics.SNAPSHOT_LAG.labels(assignment.partition).set(unsaved)
