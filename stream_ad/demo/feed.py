"""Sends the simulated stream: a quiet history as fast as possible, then the live part, at the pace of event time.

Only the feed knows the labels, and when it sent each record.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from functools import partial

import numpy as np

from stream_ad.demo.simulate import Episode, Scenario, SimRecord, simulate
from stream_ad.io.embedded import Broker

RECENT_RECORDS = 250_000
RING_ROWS = 1 << 18  # send times kept per partition
SLICE_S = 0.01


@dataclass(frozen=True, slots=True)
class Placed:
    """An episode and where its first record lies in the log."""

    episode: Episode
    partition: int
    offset: int


class Feed:
    """Runs in a thread of its own; other threads only read its public fields."""

    def __init__(
        self, broker: Broker, topic: str, partitions: int, scenario: Scenario, seed: int, history: int, rate: float
    ) -> None:
        self._broker, self._topic, self._scenario = broker, topic, scenario
        self._records = simulate(scenario, seed, history)
        self._history, self._speed = history, scenario.speed(rate)
        self._sent_ms = np.zeros((partitions, RING_ROWS))
        self._next_offset = [0] * partitions
        self._window_ends: dict[bytes, int] = {}
        self._stop, self._go_live = threading.Event(), threading.Event()
        self.history_sent = threading.Event()
        self.error: BaseException | None = None
        self.live_from = [0] * partitions  # first offset of the live part
        self.history_records = self.live_records = 0
        self.records_in_episodes = 0  # live ones, up to a tolerance after the end
        self.now_ms = 0  # event time of the newest record
        self.live_ms = 0  # event time at which the live part began
        self.placed: dict[int, Placed] = {}
        self.recent: deque[tuple[bytes, int, float]] = deque(maxlen=RECENT_RECORDS)
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def go_live(self) -> None:
        self._go_live.set()

    def stop(self) -> None:
        """Returns when the broker has all records that were sent, or after a few seconds."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(10)

    def sent_ms(self, partition: int, offset: int) -> float | None:
        """When the record was sent, by the wall clock; None if too long ago, or with the history."""
        end = self._next_offset[partition]
        if not max(self.live_from[partition], end - RING_ROWS) <= offset < end:
            return None
        return float(self._sent_ms[partition, offset % RING_ROWS])

    def _run(self) -> None:
        try:
            self._send_history()
            self._send_live()
            self._broker.flush(5)
        except Exception as error:
            self.error = error

    def _send_history(self) -> None:
        while self.history_records < self._history and not self._stop.is_set():
            self._send(next(self._records))
            self.history_records += 1
            if self.history_records % 1000 == 0:
                self._broker.serve(0)
        self._broker.flush(10)
        self.live_from = list(self._next_offset)
        self.live_ms = self.now_ms
        self.history_sent.set()

    def _send_live(self) -> None:
        while not self._go_live.wait(0.1):
            if self._stop.is_set():
                return
        begun = time.monotonic()
        for record in self._records:
            due = begun + (record.ts_ms - self.live_ms) / self._speed / 1000
            # one wait per slice of records: a wait for each record would cost more than the record
            while (ahead := due - time.monotonic()) > SLICE_S:
                if self._stop.is_set():
                    return
                self._broker.serve(min(ahead, 0.1))
            self._send(record)
            self._count(record)
            if self.live_records % 100 == 0:
                self._broker.serve(0)
                if self._stop.is_set():
                    return

    def _send(self, record: SimRecord) -> None:
        delivered = partial(self._delivered, record.episode, time.time() * 1000)
        self._broker.send(self._topic, record.key, record.value, delivered)
        self.now_ms = record.ts_ms

    def _count(self, record: SimRecord) -> None:
        self.live_records += 1
        self.recent.append((record.key, record.ts_ms, record.number))
        if record.episode is not None:
            self._window_ends[record.key] = record.episode.end_ms + self._scenario.tolerance_ms
        if record.ts_ms <= self._window_ends.get(record.key, 0):
            self.records_in_episodes += 1

    def _delivered(self, episode: Episode | None, sent_ms: float, partition: int, offset: int) -> None:
        self._sent_ms[partition, offset % RING_ROWS] = sent_ms
        self._next_offset[partition] = offset + 1
        if episode is not None and episode.id not in self.placed:
            self.placed[episode.id] = Placed(episode, partition, offset)
