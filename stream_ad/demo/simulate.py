"""A labelled stream of records, the same for the same seed.

Every key has habits of its own. After a quiet history, the simulation injects episodes of anomalies
into single keys. The labels stay here: no record contains them.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import orjson

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
MINUTE_MS = 60_000
START_MS = 1_736_121_600_000  # Monday 2025-01-06 00:00 UTC; event time has nothing to do with the wall clock

Reading: TypeAlias = dict[str, object]


@dataclass(frozen=True, slots=True)
class Episode:
    """An injected anomaly of `key`, from `start_ms` to `end_ms` of event time, both included."""

    id: int
    kind: str
    key: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class SimRecord:
    key: bytes
    value: bytes  # JSON
    ts_ms: int  # event time, also in the value
    number: float  # the scenario's `plot_field`, for the report
    episode: Episode | None


@dataclass(frozen=True, slots=True)
class Anomaly:
    """Replaces the next events of a key."""

    times_ms: Sequence[int]  # ascending; before the first, the key has its normal events
    alter: Callable[[int, Reading], Reading]  # (index of the event, normal reading) -> anomalous reading


class Subject(Protocol):
    """One key of a scenario, with its own random numbers."""

    key: str

    def next_ms(self, ts_ms: int) -> int:
        """Event time of the key's first event after `ts_ms`."""
        ...

    def reading(self, ts_ms: int) -> Reading:
        """The normal reading of the key at this time."""
        ...

    def anomaly(self, kind: str, ts_ms: int) -> Anomaly:
        """An episode that begins with the event due at `ts_ms`, or somewhat later."""
        ...


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str  # also of the preset of `stream-ad init` for it
    title: str
    key_field: str
    plot_field: str
    log_scale: bool  # of the plot
    kinds: tuple[str, ...]
    subjects: Callable[[int], Sequence[Subject]]  # seed -> every key
    events_per_s: float  # in event time, over all keys
    episode_every_ms: int  # in event time, on average
    tolerance_ms: int  # an alert at most so long after an episode's end still counts for it

    def speed(self, rate: float) -> float:
        """Milliseconds of event time per millisecond of the wall clock, for `rate` events/s by the wall clock."""
        return rate / self.events_per_s


def simulate(scenario: Scenario, seed: int, history: int, start_ms: int = START_MS) -> Iterator[SimRecord]:
    """An endless stream in the order of event time; the first `history` records are quiet.

    A key rests for a few tolerances between two episodes, so that each alert belongs to one of them.
    """
    rng = random.Random(f"{scenario.name}/{seed}/episodes")
    subjects = scenario.subjects(seed)
    due = [(subject.next_ms(start_ms), row) for row, subject in enumerate(subjects)]
    heapq.heapify(due)
    open_: dict[int, tuple[Episode, Anomaly, int]] = {}  # row -> (..., index of the event that is due)
    rested_ms = [0] * len(subjects)
    ids = itertools.count(1)
    kinds: list[str] = []
    next_episode_ms = 0
    sent = 0
    while True:
        ts_ms, row = heapq.heappop(due)
        subject = subjects[row]
        plan = open_.pop(row, None)
        if plan is None and sent >= history and ts_ms >= max(next_episode_ms, rested_ms[row]):
            if not kinds:
                kinds = rng.sample(scenario.kinds, len(scenario.kinds))
            anomaly = subject.anomaly(kind := kinds.pop(), ts_ms)
            episode = Episode(next(ids), kind, subject.key, anomaly.times_ms[0], anomaly.times_ms[-1])
            next_episode_ms = ts_ms + round(scenario.episode_every_ms * rng.uniform(0.5, 1.5))
            rested_ms[row] = episode.end_ms + 3 * scenario.tolerance_ms
            plan = episode, anomaly, 0
        reading, labelled, next_ms = subject.reading(ts_ms), None, subject.next_ms(ts_ms)
        if plan is not None:
            episode, anomaly, index = plan
            if ts_ms >= episode.start_ms:
                reading, labelled = anomaly.alter(index, reading), episode
                index += 1
                if index < len(anomaly.times_ms):
                    next_ms = anomaly.times_ms[index]
            else:
                next_ms = min(next_ms, episode.start_ms)
            if index < len(anomaly.times_ms):
                open_[row] = episode, anomaly, index
        heapq.heappush(due, (next_ms, row))
        value = orjson.dumps({scenario.key_field: subject.key, "ts": ts_ms, **reading})
        number = float(reading[scenario.plot_field])  # type: ignore[arg-type]
        yield SimRecord(subject.key.encode(), value, ts_ms, number, labelled)
        sent += 1


def hour_of_day(ts_ms: int) -> float:
    """0 to 24, UTC."""
    return ts_ms % DAY_MS / HOUR_MS


def at_hour(ts_ms: int, hour: float) -> int:
    """The first time from `ts_ms` on at which it is `hour` o'clock."""
    return ts_ms + round((hour - hour_of_day(ts_ms)) % 24 * HOUR_MS)


def spaced(ts_ms: int, gaps_ms: Sequence[float]) -> list[int]:
    """`ts_ms`, and one more time after each gap; a gap has at least one millisecond."""
    return list(itertools.accumulate((max(1, round(gap)) for gap in gaps_ms), initial=ts_ms))
