"""Summaries of network flows: hosts with their services, volumes and hours; servers that back up at night."""

from __future__ import annotations

import math
import random

from stream_ad.demo.simulate import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    START_MS,
    Anomaly,
    Reading,
    Scenario,
    at_hour,
    hour_of_day,
    spaced,
)

HOSTS = 240
MEAN_GAP_MS = 6 * MINUTE_MS
SERVICES = (("tcp", 443), ("tcp", 80), ("udp", 53), ("tcp", 22), ("tcp", 5432), ("tcp", 9092), ("udp", 123))
ODD_SERVICES = (("tcp", 23), ("tcp", 3389), ("tcp", 6667), ("udp", 1900), ("tcp", 4444))

SCAN = "port scan"
EXFILTRATION = "exfiltration"
BEACON = "beaconing"
ODD_SERVICE = "unknown service"
NIGHT = "busy at night"


class Host:
    def __init__(self, number: int, seed: int) -> None:
        self.key = f"10.0.{number // 250}.{number % 250 + 1}"
        self._rng = rng = random.Random(f"network/{seed}/{number}")
        self._services = rng.sample(SERVICES, rng.randint(2, 4))
        self._weights = [1 / (rank + 1) for rank in range(len(self._services))]
        self._volume = rng.lognormvariate(9.5, 0.8)  # bytes sent per flow
        self._ratio = rng.lognormvariate(1.0, 0.6)  # received per sent
        self._spread = rng.uniform(0.3, 0.5)
        self._drift_per_day = rng.gauss(0, 0.02)
        self._server = rng.random() < 0.2
        self._peak_hour = rng.gauss(13, 1.5)
        self._backup_hour = rng.uniform(1, 4)
        self._gap_ms = MEAN_GAP_MS * rng.uniform(0.7, 1.3)

    def _activity(self, ts_ms: int) -> float:
        if self._server:
            return 1.0
        return 0.35 + 0.65 * (0.5 + 0.5 * math.cos((hour_of_day(ts_ms) - self._peak_hour) * math.pi / 12))

    def next_ms(self, ts_ms: int) -> int:
        return ts_ms + 1 + round(self._gap_ms * self._rng.gammavariate(4, 0.25))

    def reading(self, ts_ms: int) -> Reading:
        rng = self._rng
        volume = self._volume * self._activity(ts_ms) * math.exp(self._drift_per_day * (ts_ms - START_MS) / DAY_MS)
        if self._server and 0 <= hour_of_day(ts_ms) - self._backup_hour < 0.5:
            volume *= 6  # every night: normal for this host, at this hour
        sent = volume * rng.lognormvariate(0, self._spread)
        received = sent * self._ratio * rng.lognormvariate(0, self._spread)
        proto, port = rng.choices(self._services, self._weights)[0]
        return _flow(sent, received, proto, port, packets=(sent + received) / rng.uniform(700, 1100))

    def anomaly(self, kind: str, ts_ms: int) -> Anomaly:
        rng = self._rng
        if kind == SCAN:
            probes = [_flow(60, rng.choice((0, 40)), "tcp", rng.randrange(1, 65_536), 1) for _ in range(25)]
            times = spaced(ts_ms, [rng.uniform(500, 3000) for _ in probes[1:]])
            return Anomaly(times, lambda index, normal: probes[index])
        if kind == EXFILTRATION:
            loads = [self._volume * rng.uniform(40, 90) for _ in range(4)]
            times = spaced(ts_ms, [rng.uniform(2, 4) * MINUTE_MS for _ in loads[1:]])
            return Anomaly(times, lambda index, normal: _flow(loads[index], 2000, "tcp", 443, loads[index] / 1300))
        if kind == BEACON:
            port = rng.randrange(10_000, 60_000)
            times = spaced(ts_ms, [MINUTE_MS] * 19)
            return Anomaly(times, lambda index, normal: _flow(312, 128, "tcp", port, 4))
        if kind == ODD_SERVICE:
            proto, port = rng.choice(ODD_SERVICES)
            times = spaced(ts_ms, [rng.uniform(1, 5) * MINUTE_MS for _ in range(2)])
            return Anomaly(times, lambda index, normal: {**normal, "proto": proto, "port": str(port)})
        night_ms = at_hour(ts_ms, (self._peak_hour + 12) % 24)
        loads = [self._volume * rng.uniform(6, 12) for _ in range(6)]
        times = spaced(night_ms, [rng.uniform(1, 2) * MINUTE_MS for _ in loads[1:]])

        def busy(index: int, normal: Reading) -> Reading:
            received = loads[index] * self._ratio
            return {
                **normal,
                "bytes_out": round(loads[index]),
                "bytes_in": round(received),
                "packets": round((loads[index] + received) / 900),
            }

        return Anomaly(times, busy)


def _flow(sent: float, received: float, proto: str, port: int, packets: float) -> Reading:
    return {
        "bytes_out": round(sent),
        "bytes_in": round(received),
        "packets": max(1, round(packets)),
        "proto": proto,
        "port": str(port),
    }


NETWORK = Scenario(
    name="network",
    title="network flows",
    key_field="host",
    plot_field="bytes_out",
    log_scale=True,
    kinds=(SCAN, EXFILTRATION, BEACON, ODD_SERVICE, NIGHT),
    subjects=lambda seed: [Host(number, seed) for number in range(HOSTS)],
    events_per_s=HOSTS / MEAN_GAP_MS * 1000,
    episode_every_ms=75 * MINUTE_MS,
    tolerance_ms=HOUR_MS,
)
