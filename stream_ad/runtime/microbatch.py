"""Batches on the device: rows of many partitions are scored together while the CPU folds on."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stream_ad import config, metrics
from stream_ad.batch import FeatureBatch, RejectBatch, Scores
from stream_ad.checkpoint.assignment import Assignment
from stream_ad.runtime.models import Models
from stream_ad.runtime.shadow import Shadow

if TYPE_CHECKING:
    from stream_ad.score.engine import Future

IDLE_S = 0.1
FLIGHT_S = 0.0005
MOST_BYTES = 32 << 20  # of the records that become a batch


@dataclass(slots=True)
class Item:
    """A stretch of one partition's log between its fold and its verdicts."""

    assignment: Assignment
    next_offset: int
    newest_ms: int
    nbytes: int  # of its records
    rejects: list[RejectBatch]
    features: FeatureBatch | None


@dataclass(frozen=True, slots=True)
class Scored:
    item: Item
    scores: Scores | None  # None where nothing was to be scored
    shadow: Shadow | None
    shadow_scores: Scores | None


@dataclass(frozen=True, slots=True)
class Flight:
    """Items that the device scores together."""

    items: list[Item]
    version: str
    future: Future | None
    shadow: Shadow | None
    shadow_future: Future | None

    def ready(self) -> bool:
        return self.future is None or self.future.done()

    def scored(self) -> Iterator[Scored]:
        live = iter(self.future.result()) if self.future is not None else iter(())
        beside = iter(self.shadow_future.result()) if self.shadow_future is not None else iter(())
        for item in self.items:
            scores = shadow_scores = None
            if item.features is not None:
                scores = Scores.of(item.features, self.version, next(live))
                if self.shadow is not None:
                    shadow_scores = Scores.of(item.features, self.shadow.version, next(beside))
            yield Scored(item, scores, self.shadow, shadow_scores)


class Flights:
    """Gathers items until a batch is full or late, has them scored, and gives them back in the order of each log."""

    def __init__(self, section: config.Scoring, models: Models) -> None:
        self._config, self._models = section, models
        self._latency_s = section.latency / 1000
        self._waiting: list[Item] = []
        self._rows = self._bytes = 0
        self._since_s = 0.0
        self._under_way: deque[Flight] = deque()

    def add(self, item: Item) -> None:
        if not self._waiting:
            self._since_s = time.monotonic()
        self._waiting.append(item)
        self._rows += len(item.features) if item.features is not None else 0
        self._bytes += item.nbytes

    def patience_s(self) -> float:
        """How long the caller may wait for records before it has to ask `landed` again."""
        patience = FLIGHT_S if self._under_way else IDLE_S
        if self._waiting:
            patience = min(patience, self._since_s + self._latency_s - time.monotonic())
        return max(0.0, patience)

    def versions(self) -> set[str]:
        """The versions that score what is in flight, shadows included."""
        shadows = {flight.shadow.version for flight in self._under_way if flight.shadow is not None}
        return shadows | {flight.version for flight in self._under_way}

    def landed(self) -> Iterator[Scored]:
        """The items whose scores are ready. Waits only while more than `in_flight` batches are in flight."""
        late = self._waiting and time.monotonic() - self._since_s >= self._latency_s
        if late or self._rows >= self._config.batch_rows or self._bytes >= MOST_BYTES:
            self._launch()
        while self._under_way and (len(self._under_way) > self._config.in_flight or self._under_way[0].ready()):
            yield from self._under_way.popleft().scored()

    def drained(self) -> Iterator[Scored]:
        """All items in flight; waits for their scores."""
        if self._waiting:
            self._launch()
        while self._under_way:
            yield from self._under_way.popleft().scored()

    def _launch(self) -> None:
        items, self._waiting, self._rows, self._bytes = self._waiting, [], 0, 0
        for version in dict.fromkeys(item.assignment.shard.version for item in items):
            group = [item for item in items if item.assignment.shard.version == version]
            x = [item.features.x for item in group if item.features is not None]
            future = self._models.submit(version, x) if x else None
            shadow = self._models.choice.shadow if x else None
            beside = self._models.submit(shadow.version, x) if shadow is not None else None
            metrics.BATCH_ROWS.observe(sum(map(len, x)))
            self._under_way.append(Flight(group, version, future, shadow, beside))
