"""Restores the shards of assigned partitions.

A shard comes from its snapshot, and the pipeline folds the log from there to the committed offset silently. Without
a usable snapshot it folds from further back. Loading happens in a thread of its own, so the pipeline judges the other
partitions meanwhile.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from stream_ad import metrics
from stream_ad.checkpoint.assignment import Assignment, Restored, State
from stream_ad.checkpoint.save import Saver, Threads, one_thread
from stream_ad.checkpoint.throughput import CAREFUL_PER_S, PACE
from stream_ad.config import Redis
from stream_ad.errors import ConnectionFailed, StateError
from stream_ad.protocols import ModelLog, StateStore, Swap
from stream_ad.state.shard import UNKNOWN, Folds, Shard

log = logging.getLogger(__name__)

RETRY_S = 0.25
LOOK_S = 0.01
_GONE = "the group has judged before, and its committed offset is gone (it expired, or was deleted)"
_WAYS = (
    "set the group's offset to where it is to go on (kafka-consumer-groups.sh --reset-offsets), or give the pipeline "
    "another name to judge all again"
)
TOGETHER_EVENTS = 50_000  # a replay begins only while fewer are to be replayed: other partitions wait behind replays


class Standing(Protocol):
    """Which versions can judge: `runtime.models`, of which this room knows nothing."""

    def has(self, version: str) -> bool: ...

    def standing(self, version: str) -> str: ...


@dataclass(frozen=True, slots=True)
class Known:
    """What Kafka knows about partitions that were just assigned."""

    committed: Mapping[int, int | None]
    swaps: Mapping[int, list[Swap]]
    since_s: float


class Recovery:
    """Restores the shards of one worker; `saver` saves them. The pipeline's thread calls it."""

    def __init__(
        self,
        folds: Folds,
        states: StateStore,
        log: ModelLog,
        config: Redis,
        threads: Threads = one_thread,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folds, self._states, self._log, self._config, self._clock = folds, states, log, config, clock
        self.saver = Saver(states, config, threads, clock)
        self._pool = threads("restore")
        self._restoring: dict[int, Future[Restored]] = {}
        self._closing = threading.Event()
        self._store_away = False

    def begin(
        self,
        assignments: Sequence[Assignment],
        committed: Callable[[Sequence[int]], Mapping[int, int | None]],
        version: str,
        models: Standing,
    ) -> None:
        """Begins to restore in the other thread. `committed` gives the group's committed offsets, `models` says which
        versions can judge, and partitions without history get `version`."""
        partitions = [assignment.partition for assignment in assignments]
        known = self._pool.submit(self._known, partitions, committed)
        for partition in partitions:
            self._restoring[partition] = self._pool.submit(self._restore, partition, known, version, models)

    def begun(self, assignments: Collection[Assignment]) -> list[Assignment]:
        """Those of `assignments` (all of this worker's) that begin to be folded now. Raises what restoring raised.

        A partition that has to replay begins when the other replays are nearly done. So the queue never holds more
        of replays than the partitions that judge can wait for.
        """
        for assignment in assignments:
            future = self._restoring.get(assignment.partition)
            if future is not None and future.done():
                assignment.restored(future.result())
                del self._restoring[assignment.partition]
        ready = [assignment for assignment in assignments if assignment.state is State.READY]
        under_way = sum(assignment.to_replay for assignment in assignments if assignment.replays)
        begun: list[Assignment] = []
        for assignment in sorted(ready, key=lambda assignment: assignment.to_replay):
            if not assignment.to_replay or under_way < TOGETHER_EVENTS:
                under_way += assignment.to_replay
                assignment.begin()
                begun.append(assignment)
                _say(assignment)
        return begun

    def drop(self, partition: int) -> None:
        """Gives up restoring the partition, if it is not restored yet."""
        future = self._restoring.pop(partition, None)
        if future is not None:
            future.cancel()

    def close(self) -> None:
        """Returns when neither thread has work any more."""
        self._closing.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.saver.close()

    # ── in the restoring thread ──────────────────────────────────────────────────────────

    def _known(
        self, partitions: Sequence[int], committed: Callable[[Sequence[int]], Mapping[int, int | None]]
    ) -> Known:
        """A coordinator that restarts can answer before it has read its log: with an old commit, or with none
        (`python -m tests.chaos.early`, docs/guarantees.md). Snapshots are saved after commits, so while the answer is
        behind a snapshot, this asks again, for `redis.wait` at most."""
        deadline_s = self._clock() + self._config.wait / 1000
        offsets = committed(partitions)
        while self._behind(offsets) and self._clock() < deadline_s and not self._closing.wait(RETRY_S):
            offsets = committed(partitions)
        return Known(offsets, self._log.swaps(sorted(partitions)), self._clock())

    def _behind(self, offsets: Mapping[int, int | None]) -> bool:
        """Whether a snapshot is ahead of the answered commits."""
        try:
            return not self._store_away and any(self._states.offset(part) > (at or 0) for part, at in offsets.items())
        except ConnectionFailed:
            return False

    def _restore(self, partition: int, asked: Future[Known], version: str, models: Standing) -> Restored:
        known = asked.result()
        offset, swaps = known.committed[partition], known.swaps.get(partition, [])
        if offset is None and swaps:
            offset = self._instead(partition)
        loaded = self._loaded(partition, offset, swaps, known.since_s, models.has)
        if loaded is not None:
            shard, events_per_s = loaded
            saved_offset = shard.next_offset
        else:
            shard, events_per_s = Shard(self._folds, partition, self._start(offset, swaps), version), 0
            saved_offset = UNKNOWN
            if swaps:
                past = [swap for swap in swaps if swap.offset <= shard.next_offset]
                shard.version = models.standing((past or swaps)[-1 if past else 0].version)
        ahead = _changes(swaps, shard)
        announcement = None
        logged, last = (
            swaps[-1].version if swaps else None,
            models.standing(ahead[-1].version) if ahead else shard.version,
        )
        if shard.next_offset != UNKNOWN and logged != last:
            # it judges from here on; what is folded again before was judged by what the log names
            announcement = Swap(partition, max(shard.next_offset, offset or 0), last)
        return Restored(shard, saved_offset, events_per_s, offset or 0, ahead, announcement)

    def _instead(self, partition: int) -> int:
        """The snapshot's offset, in place of a committed one that is gone. To begin anew would tell all alerts twice,
        to begin at the end would lose records. Raises `StateError` where there is no snapshot."""
        try:
            offset = self._states.offset(partition)
        except ConnectionFailed as error:
            raise StateError(f"partition {partition}: {_GONE}, and the store does not answer: {error}") from None
        if offset < 0:
            raise StateError(f"partition {partition}: {_GONE}, and there is no snapshot to go on from; {_WAYS}")
        log.warning(
            "partition %d: %s; goes on from the snapshot, at offset %d: alerts after it are told again",
            partition,
            _GONE,
            offset,
        )
        return offset

    def _loaded(
        self, partition: int, committed: int | None, known: list[Swap], since_s: float, has: Callable[[str], bool]
    ) -> tuple[Shard, int] | None:
        """From the store. While the store does not answer, this asks again for `redis.wait`; only once where it did
        not answer for the partition before."""
        deadline_s = self._clock() + (0 if self._store_away else self._config.wait / 1000)
        while committed is not None:
            try:
                self._await_former_owner(partition, committed, since_s)
                loaded = self._restored(partition, committed, known, self._states.load(partition), has)
                self._store_away = False
                return loaded
            except ConnectionFailed as error:
                if self._clock() >= deadline_s or self._closing.wait(RETRY_S):
                    log.warning("partition %d: no snapshot, rebuilds from the log: %s", partition, error)
                    self._store_away = True
                    return None
        return None

    def _await_former_owner(self, partition: int, committed: int, since_s: float) -> None:
        """The former owner may still be saving the partition. This waits for it, but no longer than a replay takes."""
        most_s = self._config.wait / 1000
        while (stored := self._states.offset(partition)) < committed:
            patience_s = min(most_s, (committed - max(stored, 0)) / (PACE.per_s or CAREFUL_PER_S))
            if self._clock() - since_s >= patience_s or self._closing.wait(LOOK_S):
                return

    def _restored(
        self,
        partition: int,
        committed: int | None,
        known: list[Swap],
        parts: Iterable[bytes] | None,
        has: Callable[[str], bool],
    ) -> tuple[Shard, int] | None:
        """The shard of the snapshot; None where it contradicts the log, is damaged, or there is none."""
        if parts is None or committed is None:
            return None
        try:
            shard, events_per_s = Shard.restore(self._folds, partition, parts)
        except StateError as error:
            log.warning("%s; rebuilds from the log", error)
            return None
        if shard.next_offset > committed:
            wrong = f"is at offset {shard.next_offset}, the group at {committed} (was it reset?)"
        elif shard.next_offset < committed and known and shard.version not in _judged(known, shard.next_offset):
            # this worker saved a swap, but another one took over and judged without it
            wrong = f"is of model {shard.version}, which never judged offset {shard.next_offset}"
        elif not has(shard.version):
            # the features have changed; or a worker saved a swap and judged nothing with it: the log has no copy
            wrong = f"is of model {shard.version}, which cannot be loaded"
        else:
            return shard, events_per_s
        log.warning("partition %d: the snapshot %s; rebuilds from the log", partition, wrong)
        return None

    def _start(self, committed: int | None, known: list[Swap]) -> int:
        """The offset to fold from without a snapshot, at or after the one at which the group began."""
        if committed is None:
            return UNKNOWN
        began = min(committed, known[0].offset) if known else committed
        if self._config.rebuild == "cold":
            return committed
        return max(began, committed - self._config.horizon_events) if self._config.rebuild == "horizon" else began


def _say(assignment: Assignment) -> None:
    partition, to_replay = assignment.partition, assignment.to_replay
    metrics.MUTED.labels(partition).set(int(assignment.replays))
    metrics.REPLAY.labels(partition).set(to_replay)
    metrics.model(partition, None, assignment.shard.version)
    if assignment.replays:
        rate = PACE.per_s or assignment.events_per_s or CAREFUL_PER_S
        log.info(
            "partition %d: folds %s events again, silently; about %.3g s at %s events/s, which all partitions share",
            partition,
            f"{to_replay:,}",
            to_replay / rate,
            f"{rate:,}",
        )


def _judged(known: list[Swap], offset: int) -> set[str]:
    """The versions that may have judged up to `offset`: both sides of a swap exactly there, else the one in force."""
    before = [swap for swap in known if swap.offset < offset][-1:]
    return {swap.version for swap in [*before, *(swap for swap in known if swap.offset == offset)]}


def _changes(known: list[Swap], shard: Shard) -> list[Swap]:
    """The swaps at the shard's offset or later that change the version."""
    changes, version = [], shard.version
    for swap in known:
        if swap.offset >= shard.next_offset and swap.version != version:
            changes.append(swap)
            version = swap.version
    return changes
