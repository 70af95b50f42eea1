"""The quality of the alerts, measured against the injected anomalies.

An incident is true when one of its alerts (opened or updated) is about an event of an episode's
key, between the episode's start and a tolerance after its end; else it is false. An episode is
found when an incident is true for it. Alerts and episodes count for the model that judged them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import orjson

from stream_ad.demo.simulate import Episode


@dataclass(frozen=True, slots=True)
class ReceivedAlert:
    """An alert as the demo read it from its topic."""

    id: str
    incident: str
    phase: str
    rule: str
    key: str
    event_ms: int
    score: float | None
    threshold: float | None
    severity: str
    model: str
    summary: str
    partition: int
    offset: int
    latency_ms: float | None  # from event sent to alert read, by the wall clock; None where it has no meaning

    @classmethod
    def of(cls, value: bytes, latency_ms: float | None) -> ReceivedAlert:
        """From the alert's JSON (docs/alert.schema.json)."""
        body = orjson.loads(value)
        copied = ("id", "incident", "phase", "rule", "key", "score", "threshold", "severity", "model", "summary")
        return cls(
            **{name: body[name] for name in copied},
            event_ms=round(datetime.fromisoformat(body["event_time"]).timestamp() * 1000),
            partition=body["position"]["partition"],
            offset=body["position"]["offset"],
            latency_ms=latency_ms,
        )


@dataclass(frozen=True, slots=True)
class Recall:
    kind: str
    injected: int
    found: int


@dataclass(frozen=True, slots=True)
class Quality:
    """Rates are None where there is nothing to divide by."""

    incidents: int
    true: int
    injected: int
    found: int
    kinds: tuple[Recall, ...]
    latency_p50_ms: float | None
    latency_p99_ms: float | None

    @property
    def precision(self) -> float | None:
        return self.true / self.incidents if self.incidents else None

    @property
    def recall(self) -> float | None:
        return self.found / self.injected if self.injected else None


def measure(
    episodes: Sequence[Episode], alerts: Sequence[ReceivedAlert], known: Sequence[Episode], tolerance_ms: int
) -> Quality:
    """Quality of `alerts` for `episodes`.

    `known` has all episodes, also unfinished ones and those of another model: an alert about one of them is not
    false.
    """
    matched = matches(known, alerts, tolerance_ms)
    incidents = {alert.incident for alert in alerts if alert.phase == "opened"}
    found = set(matches(episodes, alerts, tolerance_ms).values())
    kinds: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for episode in episodes:
        kinds[episode.kind][0] += 1
        kinds[episode.kind][1] += episode.id in found
    latencies = [a.latency_ms for a in alerts if a.latency_ms is not None and a.phase == "opened"]
    p50, p99 = np.percentile(latencies, (50, 99)).tolist() if latencies else (None, None)
    return Quality(
        incidents=len(incidents),
        true=len(incidents & matched.keys()),
        injected=len(episodes),
        found=sum(episode.id in found for episode in episodes),
        kinds=tuple(Recall(kind, *counts) for kind, counts in sorted(kinds.items())),
        latency_p50_ms=p50,
        latency_p99_ms=p99,
    )


def matches(episodes: Iterable[Episode], alerts: Iterable[ReceivedAlert], tolerance_ms: int) -> dict[str, int]:
    """Incident -> id of the episode for which it is true; false incidents are absent."""
    by_key: dict[str, list[Episode]] = defaultdict(list)
    for episode in episodes:
        by_key[episode.key].append(episode)
    episode_of: dict[str, int] = {}
    for alert in alerts:
        if alert.phase == "resolved":
            continue
        for episode in by_key.get(alert.key, ()):
            if episode.start_ms <= alert.event_ms <= episode.end_ms + tolerance_ms:
                episode_of.setdefault(alert.incident, episode.id)
    return episode_of
