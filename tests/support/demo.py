"""A demo at rest: its feed, its tail and its worker."""

from __future__ import annotations

from typing import Any

import orjson

from stream_ad.demo.feed import Placed
from stream_ad.demo.measure import ReceivedAlert
from stream_ad.demo.settings import Settings, needed
from stream_ad.demo.simulate import HOUR_MS, START_MS, Episode
from stream_ad.demo.worker import parsed
from stream_ad.io.embedded import Arrival


def body(offset: int, key: str, at_ms: int, **changed: Any) -> dict[str, Any]:
    place = f"demo.network/0/{offset}"
    return {
        "id": f"{place}/score",
        "incident": f"{place}/score",
        "phase": "opened",
        "rule": "score",
        "key": key,
        "event_time": f"2025-01-06T{at_ms // HOUR_MS:02d}:{at_ms % HOUR_MS // 60_000:02d}:00.000Z",
        "score": 30.5,
        "threshold": 6.25,
        "severity": "high",
        "model": "statistical",
        "summary": f"{key} is anomalous: <b>bytes_out</b> 9,100,000, expected 8,000–21,000.",
        "position": {"topic": "demo.network", "partition": 0, "offset": offset},
        **changed,
    }


def heard(*args: Any, latency_ms: float | None = None, **changed: Any) -> ReceivedAlert:
    return ReceivedAlert.of(orjson.dumps(body(*args, **changed)), latency_ms)


def episode(number: int, key: str, start_h: float, end_h: float, kind: str = "port scan") -> Episode:
    return Episode(number, kind, key, START_MS + round(start_h * HOUR_MS), START_MS + round(end_h * HOUR_MS))


SETTINGS = Settings(
    command="stream-ad init --topic network --preset network",
    file='[record]\nkey = "host"  # 240 < 2,000\n',
    beside=needed("127.0.0.1:1", "redis://127.0.0.1:1/0", 1, 104_000),
)


class FixedFeed:
    """What a feed has to say, at rest."""

    def __init__(self, placed: list[Placed]) -> None:
        self.placed = {one.episode.id: one for one in placed}
        self.live_from = [0]
        self.history_records, self.live_records, self.records_in_episodes = 80_000, 1000, 20
        self.now_ms, self.live_ms = START_MS + 9 * HOUR_MS, START_MS
        self.recent = [(b"a", START_MS + row * 600_000, 100.0 + row % 7) for row in range(54)]

    def sent_ms(self, partition: int, offset: int) -> float | None:
        return 1000.0 + offset


class FixedTail:
    def __init__(self, arrivals: list[Arrival]) -> None:
        self.arrivals = arrivals

    def take(self) -> list[Arrival]:
        arrivals, self.arrivals = self.arrivals, []
        return arrivals


METRICS = """\
# TYPE stream_ad_events_total counter
stream_ad_events_total 81000.0
# TYPE stream_ad_lag_events gauge
stream_ad_lag_events{partition="0"} 12.0
stream_ad_lag_events{partition="1"} 3.0
# TYPE stream_ad_keys gauge
stream_ad_keys{partition="0"} 240.0
# TYPE stream_ad_model gauge
stream_ad_model{partition="0",version="statistical"} 0.0
stream_ad_model{partition="0",version="v1"} 1.0
# TYPE stream_ad_score gauge
stream_ad_score 1.5
# TYPE stream_ad_threshold gauge
stream_ad_threshold 6.25
"""


class FixedWorker:
    def refusal(self) -> str | None:
        return None

    def figures(self) -> Any:
        return parsed(METRICS)
