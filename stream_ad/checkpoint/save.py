"""Snapshots on their way to the store, in a thread beside the pipeline's.

The pipeline stands still for a copy of the state only; packing and sending it take ten times as long. One
snapshot is sent at a time. What is copied is committed: so whenever its sending ends, or if it never
does, the store holds a state that the log bears out.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass

from stream_ad import metrics
from stream_ad.checkpoint.throughput import PACE
from stream_ad.config import Redis
from stream_ad.errors import ConnectionFailed
from stream_ad.protocols import StateStore
from stream_ad.state.shard import UNKNOWN, Shard
from stream_ad.state.snapshot import Snapshot

log = logging.getLogger(__name__)

SHARE = 0.05  # of the time at most: large states are saved less often
COPIED_BYTES = 256 << 20  # of copies that wait to be sent; one that is larger waits alone
AWAY_S = 1.0  # what comes so soon after a store that did not answer does not ask it again

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
    shard: Shard
    next_offset: int
    nbytes: int
    ours: bool  # not given up since
    sent: Future[Sent]


class Saver:
    """Saves the shards of one worker, in the order in which it is told to. By the pipeline's thread."""

    def __init__(self, states: StateStore, config: Redis, threads: Threads = one_thread) -> None:
        self._states, self._config, self._pool = states, config, threads("save")
        self.store_away = False
        self._sending: deque[Sending] = deque()
        self._waiting: set[int] = set()
        self._round_s = time.monotonic()
        self._spent_s = 0.0
        self._failed: tuple[float, str] | None = None
        self._closing = threading.Event()

    def due(self, shards: Collection[Shard]) -> list[Shard]:
        """Those to be saved now: every `snapshot_interval`, or after `snapshot_events`, as far as there is room."""
        self._collect()
        now = time.monotonic()
        if not self._sending and now - self._round_s >= max(
            self._config.snapshot_interval / 1000, self._spent_s / SHARE
        ):
            self._round_s, self._spent_s = now, 0.0
            self._waiting = {shard.partition for shard in shards if shard.unsaved}
        if not self.store_away:
            most = self._config.snapshot_events
            self._waiting.update(shard.partition for shard in shards if shard.unsaved >= most)
        return [shard for shard in shards if shard.partition in self._waiting and self._can(shard)]

    def _can(self, shard: Shard) -> bool:
        busy = any(sending.shard is shard for sending in self._sending)
        return not busy and shard.unsaved > 0 and sum(sending.nbytes for sending in self._sending) < COPIED_BYTES

    def save(self, shard: Shard) -> None:
        """Begins with it unless nothing is new, it is under way, or many copies wait already."""
        self._waiting.discard(shard.partition)
        if self._can(shard):
            self._send(shard, copied=True, ours=True)

    def hand_over(self, shard: Shard) -> None:
        """Saves a shard that nobody folds on, for whoever gets the partition: it waits for that, though not long."""
        self._waiting.discard(shard.partition)
        if shard.unsaved:
            self._send(shard, copied=False, ours=False)

    def finish(self, shards: Iterable[Shard]) -> None:
        """Returns when all is saved, or cannot be."""
        self._drain()
        for shard in shards:
            if shard.unsaved:
                self._send(shard, copied=False, ours=True)
                self._drain()
                if self.store_away:
                    return

    def save_swap(self, shard: Shard) -> bool:
        """Saves at once, also where only the model is new. False when the store is away, or holds something newer."""
        self._drain()
        try:
            sent = self._sent(shard.snapshot(), shard.partition, shard.owner, shard.next_offset)
        except ConnectionFailed:
            return False
        shard.owner = sent.owner if sent.saved else None
        if sent.saved:
            shard.saved_offset = shard.next_offset
        return sent.saved

    def close(self) -> None:
        """What is not sent by now is dropped."""
        self._closing.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _send(self, shard: Shard, copied: bool, ours: bool) -> None:
        shard.tried_offset, shard.events_per_s = shard.next_offset, PACE.per_s or shard.events_per_s
        snapshot = shard.snapshot(copied)
        sent = self._pool.submit(self._sent, snapshot, shard.partition, shard.owner, shard.next_offset)
        self._sending.append(Sending(shard, shard.next_offset, snapshot.nbytes, ours, sent))

    def _sent(self, snapshot: Snapshot, partition: int, owner: int | None, next_offset: int) -> Sent:
        """In the saving thread; by the pipeline's own for a swap, when the other is idle."""
        begun = time.monotonic()
        if self._failed is not None and begun - self._failed[0] < AWAY_S:
            raise ConnectionFailed(self._failed[1])
        try:
            if owner is None:
                owner = self._states.claim(partition)
            saved = self._states.save(partition, owner, next_offset, self._unless_closing(snapshot.parts()))
        except ConnectionFailed as error:
            self._failed = time.monotonic(), str(error)
            raise
        return Sent(owner, saved, time.monotonic() - begun)

    def _unless_closing(self, parts: Iterator[bytes]) -> Iterator[bytes]:
        for part in parts:
            if self._closing.is_set():
                raise CancelledError
            yield part

    def _drain(self) -> None:
        while self._sending:
            self._settle(self._sending.popleft())

    def _collect(self) -> None:
        while self._sending and self._sending[0].sent.done():
            self._settle(self._sending.popleft())

    def _settle(self, sending: Sending) -> None:
        shard = sending.shard
        try:
            sent = sending.sent.result()
        except ConnectionFailed as error:
            if not self.store_away:
                log.warning("snapshots wait, scoring goes on: %s", error)
            self.store_away = True
            shard.tried_offset = shard.saved_offset
        else:
            if self.store_away:
                log.info("snapshots are saved again")
            self.store_away = False
            self._spent_s += sent.spent_s
            # whoever commits owns the partition: it takes a new number where somebody has taken one since
            shard.owner = sent.owner if sent.saved else None
            if sent.saved:
                shard.saved_offset = max(shard.saved_offset, sending.next_offset)
            else:
                level = logging.WARNING if sending.ours and not shard.replaying else logging.DEBUG
                text = "partition %d: a newer snapshot is there, ours at %d is not saved"
                log.log(level, text, shard.partition, sending.next_offset)
        metrics.STORE_UP.set(0 if self.store_away else 1)
        if sending.ours and shard.next_offset != UNKNOWN:
            metrics.SNAPSHOT_LAG.labels(shard.partition).set(shard.next_offset - max(0, shard.saved_offset))
