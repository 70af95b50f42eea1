"""The loop: read, fold, score, judge, publish, commit.

Between two commits everything that is sent waits in one transaction with the offsets. A
snapshot is saved only after a commit with nothing in flight: state may lag the log, never
lead it. Whatever fails on the way out is treated as a crash: `TransactionFailed` leaves
`run`, the caller drops this object and starts a new one, which restores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from stream_ad import metrics
from stream_ad.batch import EventBatch, RawBatch, RejectBatch, Scores, Verdicts
from stream_ad.checkpoint.restore import Recovery
from stream_ad.checkpoint.throughput import PACE
from stream_ad.config import Config
from stream_ad.errors import TransactionFailed
from stream_ad.messages.models import encode_swap
from stream_ad.protocols import Codec, Sink, Source
from stream_ad.runtime.microbatch import FLIGHT_S, Flights, Item, Scored
from stream_ad.runtime.models import Models
from stream_ad.runtime.outbox import Outbox
from stream_ad.runtime.reader import Decoded, Finished, Question, Reader
from stream_ad.state.shard import UNKNOWN, Shard

SWAP_S = 0.1  # at a time: each swap has to be saved first, and large states take a while
RESTORED_S = 0.005  # between two looks at what is being restored


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a partition has come."""

    position: int  # the next offset to judge; -1 = not known yet
    saved: int  # the snapshot's; -1 = none
    latest_ms: int  # highest event time; far below zero before the first event
    committed_s: float | None  # wall clock of the last commit
    keys: int


class Pipeline:
    """Judges what `source` gives until it ends or `stop` says so."""

    def __init__(
        self,
        config: Config,
        source: Source,
        codec: Codec,
        sink: Sink,
        models: Models,
        recovery: Recovery,
        outbox: Outbox,
        observe: Callable[[Verdicts], None] | None = None,
    ) -> None:
        self.config = config
        self.source, self.codec, self.sink = source, codec, sink
        self.models, self.recovery, self.outbox, self.observe = models, recovery, outbox, observe
        self.shards: dict[int, Shard] = {}
        self._flights = Flights(config.scoring, models)
        self._offsets: dict[int, int] = {}
        self._committed_s: dict[int, float] = {}
        self._newest_ms = -1
        self._committed_at = time.monotonic()

    def run(self, stop: Callable[[], bool]) -> None:
        """Raises `TransactionFailed` (start anew) and what the parts raise."""
        with closing(self.recovery), Reader(self.source, self.codec) as reader:
            try:
                while not stop():
                    crowded, begun = reader.crowded(), time.perf_counter()
                    item = reader.get(self._patience_s())
                    if isinstance(item, Decoded):
                        self.submit(item)
                    elif isinstance(item, Question):
                        item.settle(self)
                    elif isinstance(item, Finished):
                        break
                    self._advance()
                    if crowded and isinstance(item, Decoded):
                        PACE.note(len(item.events), time.perf_counter() - begun)
                self.finish()
                self.commit()
                self.recovery.saver.finish(self.shards.values())
            except BaseException:
                self.sink.abort()
                raise

    def _patience_s(self) -> float:
        patience_s = FLIGHT_S if self.outbox else self._flights.patience_s()
        return min(patience_s, RESTORED_S) if self.recovery.waiting else patience_s

    # ── reading ──────────────────────────────────────────────────────────────────────────

    def submit(self, decoded: Decoded) -> None:
        """Folds a stretch of a partition's log up to where its scores are asked for."""
        shard = self.shards.get(decoded.raw.partition)
        if shard is None:
            return  # read before the partition was given up
        events, rejects = decoded.events, decoded.rejects
        if shard.next_offset == UNKNOWN:
            self._begin(shard, decoded.raw)
        shard.goes_on(decoded.raw)
        while shard.swaps and shard.swaps[0].offset < decoded.raw.next_offset:
            swap = shard.swaps.pop(0)
            cut = int(np.searchsorted(events.offset, swap.offset))
            head, tail = rejects.split(swap.offset)
            self._enqueue(shard, events.slice(0, cut), head, swap.offset, decoded.raw)
            events, rejects = events.slice(cut, len(events)), tail
            self.finish()
            self.models.swap(shard, self.models.version(swap.version))
        self._enqueue(shard, events, rejects, decoded.raw.next_offset, decoded.raw)

    def _begin(self, shard: Shard, raw: RawBatch) -> None:
        shard.next_offset = int(raw.offset[0]) if len(raw) else raw.next_offset
        self.recovery.announce(shard)

    def _enqueue(self, shard: Shard, events: EventBatch, rejects: RejectBatch, next_offset: int, raw: RawBatch) -> None:
        found = [rejects] if len(rejects) else []
        features = None
        if len(events):
            features = shard.submit(events)
            keyed = features.windows.keyed
            metrics.LATE.inc(keyed.dropped)
            if keyed.rejects is not None:
                found.append(keyed.rejects)
        newest_ms = int(raw.timestamp_ms[-1]) if len(raw) else -1
        self._flights.add(Item(shard, next_offset, newest_ms, found, features))

    # ── judging ──────────────────────────────────────────────────────────────────────────

    def _advance(self) -> None:
        for scored in self._flights.landed():
            self._land(scored)
        self.outbox.send_ready()
        now = time.monotonic()
        if now - self._committed_at >= self.config.sink.commit_interval / 1000:
            self.commit()
        self.begin_restored()
        due = [] if self.models.store_away else self.recovery.saver.due(self.shards.values())
        if due:
            self.checkpoint(due)
        version = self.models.wanted()
        if version is not None and not self.models.store_away:
            self.swap(version)

    def _land(self, scored: Scored) -> None:
        item, shard = scored.item, scored.item.shard
        if scored.scores is not None:
            if scored.shadow is not None:
                scored.shadow.begin(shard)
            verdicts = self._judge(shard, scored.scores)
            if scored.shadow is not None and scored.shadow_scores is not None:
                scored.shadow.judge(shard, scored.shadow_scores, verdicts)
            metrics.EVENTS.inc(len(scored.scores.features.windows))
        for rejects in item.rejects:
            _, spoken = rejects.split(shard.mute_until)
            self.outbox.reject(spoken)
        if shard.replaying:
            metrics.REPLAY.labels(shard.partition).set(max(0, shard.mute_until - item.next_offset))
        shard.next_offset = item.next_offset
        if item.next_offset > shard.mute_until:
            self._offsets[shard.partition] = item.next_offset
        self._newest_ms = max(self._newest_ms, item.newest_ms)

    def _judge(self, shard: Shard, scores: Scores) -> Verdicts:
        verdicts, alerts = shard.finish(scores)
        if self.observe is not None:
            self.observe(verdicts)
        if len(verdicts):
            metrics.SCORE.set(scores.score[-1])
            metrics.THRESHOLD.set(verdicts.threshold[-1])
        if len(alerts) and shard.replaying:
            alerts = alerts.take(np.flatnonzero(alerts.offset >= shard.mute_until))
        if len(alerts):
            self.outbox.add(verdicts, alerts)
        return verdicts

    def finish(self) -> None:
        """Judges all that was submitted."""
        for scored in self._flights.drained():
            self._land(scored)

    # ── committing ───────────────────────────────────────────────────────────────────────

    def commit(self) -> None:
        """What is judged becomes visible together with its offsets. Raises `TransactionFailed`."""
        self._committed_at = time.monotonic()
        self.outbox.send_all()
        if not self._offsets:
            return
        announced = [swap for part in self._offsets if (swap := self.shards[part].announce) is not None]
        for version in {swap.version for swap in announced}:
            self.sink.send("bundles", self.models.records(version))
        self.sink.send("models", [encode_swap(swap) for swap in announced])
        with metrics.COMMIT_SECONDS.time():
            self.sink.commit(self._offsets)
        for partition in self._offsets:
            shard = self.shards[partition]
            shard.announce = None
            self._committed_s[partition] = time.time()
            metrics.KEYS.labels(partition).set(shard.used)
            metrics.MUTED.labels(partition).set(0)
        if self._newest_ms > 0:
            metrics.LATENCY.observe(max(0.0, time.time() - self._newest_ms / 1000))
        self._offsets, self._newest_ms = {}, -1
        judging = [shard.version for shard in self.shards.values() if not shard.replaying]
        self.models.committed([swap.version for swap in announced], judging)

    def checkpoint(self, shards: Sequence[Shard] | None = None) -> None:
        """Commits what is under way, then begins to save these shards, or every one."""
        self.finish()
        self.commit()
        for shard in self.shards.values() if shards is None else shards:
            self.recovery.saver.save(shard)

    def swap(self, version: str) -> None:
        """Every shard that does not replay goes over to `version`, between two commits and saved before it judges."""
        due = [shard for shard in self.shards.values() if shard.version != version and shard.settled]
        if not due:
            return
        self.finish()
        self.commit()
        begun = time.monotonic()
        for shard in due:
            self.models.swap_saved(shard, version, self.recovery)
            if time.monotonic() - begun > SWAP_S:
                return
        metrics.SWAPS.inc()

    def status(self) -> dict[str, object]:
        """For `/readyz`; called from another thread."""
        shards = list(self.shards.values())
        return {
            "ready": bool(shards) and not any(shard.replaying for shard in shards) and not self.recovery.waiting,
            "partitions": sorted(shard.partition for shard in shards),
            "replaying": sorted(shard.partition for shard in shards if shard.replaying),
            "restoring": self.recovery.waiting,
            "models": sorted({shard.version for shard in shards}),
            "store": not (self.recovery.saver.store_away or self.models.store_away),
        }

    def progress(self) -> dict[int, Progress]:
        """Of each partition; called from another thread."""
        return {
            shard.partition: Progress(
                shard.next_offset,
                shard.saved_offset,
                shard.latest_ms,
                self._committed_s.get(shard.partition),
                shard.used,
            )
            for shard in list(self.shards.values())
        }

    # ── partitions come and go (Listener) ────────────────────────────────────────────────

    def assigned(self, partitions: Sequence[int]) -> None:
        self.recovery.begin(partitions, self.source.committed, self.models.current(), self.models.has)

    def begin_restored(self) -> None:
        """Goes on with the partitions whose shards are ready. Raises what restoring raised."""
        for shard in self.recovery.restored(self.shards.values()):
            self.shards[shard.partition] = shard
            self.source.start({shard.partition: shard.next_offset})

    def revoked(self, partitions: Sequence[int]) -> None:
        """Saved after they are given up: whoever waits for that keeps the other partitions waiting."""
        self.finish()
        self.commit()
        for partition in partitions:
            if partition in self.shards:
                self.recovery.saver.hand_over(self.shards[partition])
        self._forget(partitions)

    def lost(self, partitions: Sequence[int]) -> None:
        """What waits in the open transaction may belong to them, so all of it is dropped."""
        self._forget(partitions)
        raise TransactionFailed(f"partitions {sorted(partitions)} were taken by another worker")

    def _forget(self, partitions: Sequence[int]) -> None:
        self.recovery.drop(partitions)
        for partition in partitions:
            self.shards.pop(partition, None)
            self._committed_s.pop(partition, None)
