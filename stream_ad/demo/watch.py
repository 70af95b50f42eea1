"""The state of a running demo, for the screen, the plain lines and the report."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass

from stream_ad.demo.feed import Feed, Placed
from stream_ad.demo.measure import Quality, ReceivedAlert, measure
from stream_ad.demo.settings import Settings
from stream_ad.demo.simulate import Episode, Scenario
from stream_ad.demo.worker import Figures, Worker
from stream_ad.io.embedded import Tail
from stream_ad.messages.models import decode_swap
from stream_ad.protocols import BUILT_IN

KEPT_ALERTS = 20_000
KEPT_SAMPLES = 20_000


@dataclass(frozen=True, slots=True)
class Sample:
    """The worker at one moment."""

    wall_s: float  # since the demo began
    event_ms: int  # event time of the newest record sent
    events_per_s: float
    lag: int
    score: float
    threshold: float
    trained: bool


class Watch:
    def __init__(
        self,
        scenario: Scenario,
        feed: Feed,
        worker: Worker,
        tail: Tail,
        alerts: str,
        models: str,
        settings: Settings,
    ) -> None:
        """`alerts` and `models` are the topics that the tail reads."""
        self.scenario, self.feed, self.settings = scenario, feed, settings
        self._worker, self._tail, self._topics = worker, tail, (alerts, models)
        self._begun = time.monotonic()
        self._seen: set[str] = set()
        self.alerts: deque[ReceivedAlert] = deque(maxlen=KEPT_ALERTS)  # of the live part
        self.history_alerts = 0  # incidents opened in the quiet history: all false, and not measured
        self.samples: deque[Sample] = deque(maxlen=KEPT_SAMPLES)
        self.figures: Figures | None = None
        self.model = BUILT_IN
        self.swapped_s: float | None = None  # seconds since the beginning
        self.refused: tuple[float, str] | None = None  # the same, and why the trained model does not judge
        self._swaps: dict[int, int] = {}  # partition -> first offset judged by a trained model
        self._clock: deque[tuple[int, int]] = deque()  # (records sent, event time of the last one)
        self.settled_ms = 0  # event time up to which all events are judged

    def elapsed_s(self) -> float:
        return time.monotonic() - self._begun

    def listen(self) -> list[ReceivedAlert]:
        """Takes what has arrived; returns the new alerts."""
        new = []
        for arrival in self._tail.take():
            if arrival.value is None:
                continue
            if arrival.topic == self._topics[1]:
                swap = decode_swap(arrival.value)
                if swap.version != BUILT_IN:
                    self._swaps.setdefault(swap.partition, swap.offset)
                continue
            alert = ReceivedAlert.of(arrival.value, None)
            if alert.id in self._seen:
                continue  # delivered twice (at least once)
            self._seen.add(alert.id)
            if alert.offset < self.feed.live_from[alert.partition] or not self.feed.live_records:
                self.history_alerts += alert.phase == "opened"
                continue
            if alert.rule != "silence" and alert.phase == "opened":
                sent_ms = self.feed.sent_ms(alert.partition, alert.offset)
                if sent_ms is not None:
                    alert = ReceivedAlert.of(arrival.value, arrival.arrived_ms - sent_ms)
            self.alerts.append(alert)
            new.append(alert)
        return new

    def sample(self) -> None:
        """Asks the worker for its figures, and keeps a sample of them."""
        now = self.elapsed_s()
        self._clock.append((self.sent(), self.feed.now_ms))
        figures = self._worker.figures()
        if figures is None:
            return
        while self._clock and self._clock[0][0] <= figures.events:
            self.settled_ms = self._clock.popleft()[1]
        before, self.figures = self.figures, figures
        versions = set(figures.versions.values())
        if versions and BUILT_IN not in versions and self.swapped_s is None:
            self.swapped_s = now
        if self.swapped_s is None and self.refused is None and (reason := self._worker.refusal()) is not None:
            self.refused = now, reason
        self.model = ", ".join(sorted(versions)) or BUILT_IN
        rate = 0.0
        if before is not None and self.samples:
            rate = (figures.events - before.events) / max(now - self.samples[-1].wall_s, 1e-3)
        trained = self.swapped_s is not None
        self.samples.append(Sample(now, self.feed.now_ms, rate, self.lag(), figures.score, figures.threshold, trained))

    def sent(self) -> int:
        """The number of records sent, with the history."""
        return self.feed.history_records + self.feed.live_records

    def lag(self) -> int:
        """The number of records sent but not judged yet."""
        return max(0, self.sent() - self.figures.events) if self.figures is not None else 0

    def settle(self) -> None:
        """Call it when all records are judged: then the episodes up to the end count."""
        self.settled_ms = self.feed.now_ms

    def episodes(self) -> list[Episode]:
        return [placed.episode for placed in list(self.feed.placed.values())]

    def base_rate(self) -> float:
        """Share of live events that lie in an episode's window: the precision of alerts at random."""
        return self.feed.records_in_episodes / max(self.feed.live_records, 1)

    def quality(self, trained: bool | None = None) -> Quality:
        """The quality of the trained models, of the statistical one, or of all (None)."""
        placed = [p for p in list(self.feed.placed.values()) if p.episode.end_ms <= self.settled_ms]
        alerts = list(self.alerts)
        if trained is not None:
            placed = [p for p in placed if self._is_trained(p) == trained]
            alerts = [alert for alert in alerts if (alert.model != BUILT_IN) == trained]
        return measure([p.episode for p in placed], alerts, self.episodes(), self.scenario.tolerance_ms)

    def _is_trained(self, placed: Placed) -> bool:
        return placed.offset >= self._swaps.get(placed.partition, math.inf)
