"""The loop. A record passes it once:

1. read: the reader decodes a stretch of a partition's log (`reader.py`);
2. fold: windows and features, up to where its scores are asked for (`submit`);
3. score: in a micro-batch with stretches of other partitions (`microbatch.py`);
4. judge: threshold, incidents; what was published before stays silent (`_judge`);
5. publish: alerts, once they are explained (`outbox.py`), and rejects;
6. commit: all that was published since the last commit, with the offsets (`commit`).

Between two commits, with nothing in flight, the loop saves snapshots (`checkpoint`), swaps models (`swap`), begins with
restored partitions and gives up revoked ones: state may lag the log, never lead it. The loop repeats no failed
transaction: `TransactionFailed` leaves `run`, and the caller drops this object and starts a new one, which restores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing

import numpy as np

from stream_ad import metrics
from stream_ad.batch import Scores, Verdicts
from stream_ad.checkpoint.assignment import Assignment, State
from stream_ad.checkpoint.restore import Recovery
from stream_ad.checkpoint.throughput import PACE
from stream_ad.codec.decoded import Decoded
from stream_ad.config import Config
from stream_ad.errors import TransactionFailed
from stream_ad.messages.models import encode_swap
from stream_ad.protocols import Codec, Sink, Source
from stream_ad.runtime import swaps
from stream_ad.runtime.microbatch import FLIGHT_S, Flights, Item, Scored
from stream_ad.runtime.models import Models
from stream_ad.runtime.outbox import Outbox
from stream_ad.runtime.progress import Progress
from stream_ad.runtime.reader import Finished, Question, Reader
from stream_ad.runtime.tally import Tally

SWAP_S = (
    0.1  # swapping holds up the loop for so long at a time: each swap is saved first, and large states take a while
)
RESTORED_S = 0.005  # the loop looks this often whether a partition is restored


class Pipeline:
    """Judges what `source` gives until it ends or `stop` says so.

    `assignments` holds every partition that is ours, in whatever state.
    """

    def __init__(
        self,
        config: Config,
        source: Source,
        codec: Codec,
        sink: Sink,
        models: Models,
        recovery: Recovery,
        outbox: Outbox,
        tally: Tally,
        observe: Callable[[Verdicts], None] | None = None,
    ) -> None:
        self.config = config
        self.source, self.codec, self.sink = source, codec, sink
        self.models, self.recovery, self.outbox = models, recovery, outbox
        self.tally, self.observe = tally, observe
        self.assignments: dict[int, Assignment] = {}
        self._flights = Flights(config.scoring, models)
        self._offsets: dict[int, int] = {}  # judged, not committed yet
        self._newest_ms = -1
        self._committed_at = time.monotonic()

    @property
    def folding(self) -> list[Assignment]:
        """The partitions that replay or judge."""
        return [assignment for assignment in list(self.assignments.values()) if assignment.folds]

    @property
    def waiting(self) -> list[int]:
        """Partitions that are ours and are not folded yet."""
        return sorted(one.partition for one in list(self.assignments.values()) if not one.folds)

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
                self.recovery.saver.finish(self.folding)
            except BaseException:
                self.sink.abort()
                raise

    def _patience_s(self) -> float:
        patience_s = FLIGHT_S if self.outbox else self._flights.patience_s()
        return min(patience_s, RESTORED_S) if self.waiting else patience_s

    def _advance(self) -> None:
        """Does what is due after an item was read: verdicts, commit, snapshots, swaps."""
        for scored in self._flights.landed():
            self._judge(scored)
        self.outbox.send_ready()
        if time.monotonic() - self._committed_at >= self.config.sink.commit_interval / 1000:
            self.commit()
            self.evict()
        self.begin_restored()
        if self.models.choice.store_away:
            return
        due = self.recovery.saver.due(self.folding)
        if due:
            self.checkpoint(due)
        if self.models.choice.wanted is not None:
            self.swap(self.models.choice.wanted)

    # ── the way of a record ──────────────────────────────────────────────────────────────

    def submit(self, decoded: Decoded) -> None:
        """Folds a stretch of a partition's log up to where its scores are asked for."""
        assignment = self.assignments.get(decoded.raw.partition)
        if assignment is None or not assignment.folds:
            return  # read before the partition was given up
        assignment.read(decoded.raw)
        while assignment.swaps and assignment.swaps[0].offset < decoded.next_offset:
            swap = assignment.swaps.pop(0)
            head, decoded = decoded.split(swap.offset)
            self._fold(assignment, head)
            self.finish()
            swaps.repeat(self.models, assignment, swap.version)
        self._fold(assignment, decoded)

    def _fold(self, assignment: Assignment, decoded: Decoded) -> None:
        raw = decoded.raw
        rejected = [decoded.rejects] if len(decoded.rejects) else []
        features = None
        if len(decoded.events):
            features = assignment.shard.submit(decoded.events)
            if features.windows.keyed.rejects is not None:
                rejected.append(features.windows.keyed.rejects)
        newest_ms = int(raw.timestamp_ms[-1]) if len(raw) else -1
        self._flights.add(Item(assignment, decoded.next_offset, newest_ms, decoded.nbytes, rejected, features))

    def finish(self) -> None:
        """Judges everything in flight."""
        for scored in self._flights.drained():
            self._judge(scored)

    def _judge(self, scored: Scored) -> None:
        item, assignment = scored.item, scored.item.assignment
        if scored.scores is not None:
            if scored.shadow is not None:
                scored.shadow.begin(assignment.shard)
            verdicts = self._publish(assignment, scored.scores)
            if scored.shadow is not None and scored.shadow_scores is not None:
                scored.shadow.judge(assignment.shard, scored.shadow_scores, verdicts)
        unpublished = [rejects.split(assignment.mute_until)[1] for rejects in item.rejects]
        for rejects in unpublished:
            self.outbox.reject(rejects)
        if assignment.replays:
            metrics.REPLAY.labels(assignment.partition).set(max(0, assignment.mute_until - item.next_offset))
        assignment.judged(item.next_offset)
        if item.next_offset > assignment.mute_until:
            self._offsets[assignment.partition] = item.next_offset
            self.tally.judged(item.features, sum(map(len, unpublished)), assignment.mute_until)
        self._newest_ms = max(self._newest_ms, item.newest_ms)

    def _publish(self, assignment: Assignment, scores: Scores) -> Verdicts:
        verdicts, alerts = assignment.shard.finish(scores)
        if self.observe is not None:
            self.observe(verdicts)
        if len(verdicts):
            metrics.SCORE.set(scores.score[-1])
            metrics.THRESHOLD.set(verdicts.threshold[-1])
        if len(alerts) and assignment.replays:
            alerts = alerts.take(np.flatnonzero(alerts.offset >= assignment.mute_until))
        if len(alerts):
            self.outbox.add(verdicts, alerts)
        return verdicts

    def commit(self) -> None:
        """Commits the alerts and rejects of what is judged together with its offsets. Raises `TransactionFailed`."""
        self._committed_at = time.monotonic()
        self.outbox.send_all()
        if not self._offsets:
            return
        judged = [self.assignments[partition] for partition in self._offsets]
        announced = [one.announcement for one in judged if one.announcement is not None]
        for version in {swap.version for swap in announced}:
            self.sink.send("bundles", self.models.records(version))
        self.sink.send("models", [encode_swap(swap) for swap in announced])
        with metrics.COMMIT_SECONDS.time():
            self.sink.commit(self._offsets)
        self.tally.committed()
        for assignment in judged:
            assignment.announcement, assignment.committed_s = None, time.time()
            metrics.KEYS.labels(assignment.partition).set(assignment.shard.used)
            metrics.budget(assignment.partition, *assignment.shard.budget)
            metrics.MUTED.labels(assignment.partition).set(0)
        if self._newest_ms > 0:
            metrics.LATENCY.observe(max(0.0, time.time() - self._newest_ms / 1000))
        self._offsets, self._newest_ms = {}, -1
        judging = [assignment.shard.version for assignment in self.folding if not assignment.replays]
        self.models.committed([swap.version for swap in announced], judging)

    # ── between two commits ──────────────────────────────────────────────────────────────

    def checkpoint(self, assignments: Sequence[Assignment] | None = None) -> None:
        """Commits everything in flight, then begins to save `assignments`, or all that are folded."""
        self.finish()
        self.commit()
        for assignment in self.folding if assignments is None else assignments:
            self.recovery.saver.save(assignment)

    def swap(self, version: str) -> None:
        """Has every partition that judges go over to `version`: between two commits, and saved before it judges."""
        due = [one for one in self.folding if one.settled and one.shard.version != version]
        if not due or not self.recovery.saver.may_swap():
            return
        self.finish()
        self.commit()
        begun = time.monotonic()
        for assignment in due:
            swaps.make(self.models, self.recovery.saver, assignment, version)
            if time.monotonic() - begun > SWAP_S:
                return
        metrics.SWAPS.inc()

    def evict(self) -> None:
        """Forgets models that nobody uses. It waits while a partition is restored: the restoring thread may need one
        that has no other copy."""
        assignments = self.assignments.values()
        if not any(assignment.state is State.RESTORING for assignment in assignments):
            self.models.evict(self._flights.versions().union(*(assignment.versions for assignment in assignments)))

    # ── partitions come and go (Listener) ────────────────────────────────────────────────

    def assigned(self, partitions: Sequence[int]) -> None:
        new = {partition: Assignment(partition) for partition in partitions}
        self.assignments.update(new)
        self.recovery.begin(list(new.values()), self.source.committed, self.models.choice.current, self.models)

    def begin_restored(self) -> None:
        """Starts to read the restored partitions whose turn it is. Raises what restoring raised."""
        for assignment in self.recovery.begun(self.assignments.values()):
            self.source.start({assignment.partition: assignment.shard.next_offset})

    def revoked(self, partitions: Sequence[int]) -> None:
        """Gives the partitions up at once and saves them afterwards, so that the others need not wait for the save."""
        self.finish()
        self.commit()
        for assignment in self._forget(partitions):
            folded = assignment.folds
            assignment.hand_over()
            if folded:
                self.recovery.saver.hand_over(assignment)

    def lost(self, partitions: Sequence[int]) -> None:
        """Raises `TransactionFailed`: the open transaction may hold alerts of these partitions."""
        for assignment in self._forget(partitions):
            assignment.lose()
        raise TransactionFailed(f"partitions {sorted(partitions)} were taken by another worker")

    def _forget(self, partitions: Sequence[int]) -> list[Assignment]:
        gone = [self.assignments.pop(partition) for partition in partitions if partition in self.assignments]
        for assignment in gone:
            self.recovery.drop(assignment.partition)
        return gone

    # ── what other threads ask ───────────────────────────────────────────────────────────

    def status(self) -> dict[str, object]:
        """What `/readyz` answers."""
        folding, waiting = self.folding, self.waiting
        replaying = sorted(assignment.partition for assignment in folding if assignment.replays)
        return {
            "ready": bool(folding) and not replaying and not waiting,
            "partitions": sorted(assignment.partition for assignment in folding),
            "replaying": replaying,
            "restoring": waiting,
            "models": sorted({assignment.shard.version for assignment in folding}),
            "store": not (self.recovery.saver.store_away or self.models.choice.store_away),
        }

    def progress(self) -> dict[int, Progress]:
        """How far each partition is that replays or judges."""
        return {assignment.partition: Progress.of(assignment) for assignment in self.folding}
