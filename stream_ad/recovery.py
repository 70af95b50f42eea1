"""Where shards come from, and how they are saved.

A partition's state is taken from its snapshot; the log from there to the committed offset
is folded silently. Without a usable snapshot it is folded again from further back.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from stream_ad import metrics
from stream_ad.config import Redis
from stream_ad.errors import ConnectionFailed, StateError, StoreRefuses
from stream_ad.protocols import ModelLog, StateStore, Swap
from stream_ad.shard import UNKNOWN, Folds, Shard

log = logging.getLogger(__name__)

RETRY_S = 0.25


class Recovery:
    """Restores and saves the shards of one worker."""

    def __init__(self, folds: Folds, states: StateStore, log: ModelLog, config: Redis) -> None:
        self._folds, self._states, self._log, self._config = folds, states, log, config
        self.store_away = False

    def restore(self, committed: Mapping[int, int | None], version: str, has: Callable[[str], bool]) -> Iterator[Shard]:
        """Shards for partitions with these committed offsets; `version` is for those without history.

        `has` tells whether a model can be had.
        """
        history = self._log.swaps(sorted(committed))
        deadline = time.monotonic() + self._config.wait / 1000
        for partition, offset in sorted(committed.items()):
            owner, blob = self._load(partition, deadline)
            known = history.get(partition, [])
            shard = self._restored(partition, offset, known, blob, has)
            if shard is None:
                shard = Shard(self._folds, partition, self._start(offset, known), version)
                if known:
                    past = [swap for swap in known if swap.offset <= shard.next_offset]
                    shard.version = (past or known)[-1 if past else 0].version
            shard.owner = owner
            shard.mute_until = offset or 0
            shard.swaps = _changes(known, shard)
            told = known[-1].version if known else None
            if shard.next_offset != UNKNOWN and told != (shard.swaps[-1] if shard.swaps else shard).version:
                self.announce(shard)
            if shard.replaying:
                log.info(
                    "partition %d: folds %d events again, silently", partition, shard.mute_until - shard.next_offset
                )
            metrics.MUTED.labels(partition).set(int(shard.replaying))
            metrics.model(partition, None, shard.version)
            yield shard

    def announce(self, shard: Shard) -> None:
        """The log is to know which version judges from here on; the next transaction tells it."""
        shard.announce = Swap(shard.partition, shard.next_offset, shard.version)

    def save(self, shard: Shard) -> bool:
        """Saves if anything is new. False when the store is away: said once, tried again at the next checkpoint."""
        if shard.next_offset in (UNKNOWN, shard.saved_offset) or shard.replaying:
            return True
        try:
            if not self._saved(shard):
                log.warning(
                    "partition %d: a newer snapshot is there, ours at %d is not saved",
                    shard.partition,
                    shard.next_offset,
                )
        except ConnectionFailed as error:
            if not self.store_away:
                log.warning("snapshots wait, scoring goes on: %s", error)
            self.store_away = True
        else:
            if self.store_away:
                log.info("snapshots are saved again")
            self.store_away = False
        metrics.STORE_UP.set(0 if self.store_away else 1)
        metrics.SNAPSHOT_LAG.labels(shard.partition).set(shard.next_offset - max(0, shard.saved_offset))
        return not self.store_away

    def save_swap(self, shard: Shard) -> bool:
        """Saves at once. False when the store is away, or refuses because it holds something newer."""
        try:
            saved = self._saved(shard)
        except ConnectionFailed:
            return False
        if saved:
            self.announce(shard)
        return saved

    def _saved(self, shard: Shard) -> bool:
        if shard.owner is None:
            shard.owner = self._states.claim(shard.partition)
        saved = self._states.save(shard.partition, shard.owner, shard.next_offset, shard.snapshot().parts())
        if saved:
            shard.saved_offset = shard.next_offset
        return saved

    def _load(self, partition: int, deadline: float) -> tuple[int | None, Iterable[bytes] | None]:
        owner = None
        while True:
            try:
                if owner is None:
                    owner = self._claimed(partition)
                return owner, self._states.load(partition)
            except ConnectionFailed as error:
                if time.monotonic() >= deadline:
                    log.warning("partition %d: no snapshot, rebuilds from the log: %s", partition, error)
                    return owner, None
                time.sleep(RETRY_S)

    def _claimed(self, partition: int) -> int | None:
        """None where the store answers but takes nothing, as one that is full or a replica: it can still be read."""
        try:
            return self._states.claim(partition)
        except StoreRefuses as error:
            log.warning("partition %d: not claimed yet: %s", partition, error)
            return None

    def _restored(
        self,
        partition: int,
        committed: int | None,
        known: list[Swap],
        blob: Iterable[bytes] | None,
        has: Callable[[str], bool],
    ) -> Shard | None:
        """The shard of a snapshot that the log bears out."""
        if blob is None or committed is None:
            return None
        try:
            shard = Shard.restore(self._folds, partition, blob)
        except StateError as error:
            log.warning("%s; rebuilds from the log", error)
            return None
        if shard.next_offset > committed:
            wrong = f"is at offset {shard.next_offset}, the group at {committed} (was it reset?)"
        elif shard.next_offset < committed and known and shard.version not in _judged(known, shard.next_offset):
            # a swap that was saved, but another worker went on without it
            wrong = f"is of model {shard.version}, which never judged offset {shard.next_offset}"
        elif shard.next_offset == committed and not has(shard.version):
            # a swap that was saved and never used: the log has no copy of its bundle
            wrong = f"is of model {shard.version}, which cannot be had"
        else:
            return shard
        log.warning("partition %d: the snapshot %s; rebuilds from the log", partition, wrong)
        return None

    def _start(self, committed: int | None, known: list[Swap]) -> int:
        """Where to fold from without a snapshot: never before the offset at which the group began."""
        if committed is None:
            return UNKNOWN
        began = min(committed, known[0].offset) if known else committed
        if self._config.rebuild == "cold":
            return committed
        return max(began, committed - self._config.horizon_events) if self._config.rebuild == "horizon" else began


def _judged(known: list[Swap], offset: int) -> set[str]:
    """The versions before and after a swap at `offset`; the only one in force if there is none."""
    before = [swap for swap in known if swap.offset < offset][-1:]
    return {swap.version for swap in [*before, *(swap for swap in known if swap.offset == offset)]}


def _changes(known: list[Swap], shard: Shard) -> list[Swap]:
    """Those at the shard's offset or ahead of it that bring another version."""
    changes, version = [], shard.version
    for swap in known:
        if swap.offset >= shard.next_offset and swap.version != version:
            changes.append(swap)
            version = swap.version
    return changes
