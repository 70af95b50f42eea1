"""Machines with three sensors: shifts, weather, wear; and machines that fall silent."""

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

DEVICES = 120
INTERVAL_MS = 5 * MINUTE_MS

SPIKE = "spike"
STUCK = "stuck at full scale"
LEAK = "slow leak"
NIGHT = "runs out of hours"
SILENCE = "silence"


class Device:
    def __init__(self, number: int, seed: int) -> None:
        self.key = f"press-{number:03d}"
        self._rng = rng = random.Random(f"sensors/{seed}/{number}")
        self._warm = rng.gauss(42, 6)  # °C at rest
        self._season = rng.uniform(2, 4)  # °C, day against night
        self._heat = rng.uniform(10, 16)  # °C under load
        self._idle_current = rng.uniform(1.5, 2.5)  # A
        self._load_current = rng.uniform(12, 18)  # A
        self._vibration = rng.uniform(1.2, 2.2)  # mm/s under load
        self._wear_per_day = abs(rng.gauss(0, 0.15))  # °C
        self._shift_start = rng.gauss(6.5, 0.7)
        self._shift_end = rng.gauss(19.5, 0.7)
        self._last_noise = 0.0

    def _load(self, ts_ms: int) -> float:
        # machines start and stop over some three hours
        hour = hour_of_day(ts_ms)
        started = 1 / (1 + math.exp(-1.5 * (hour - self._shift_start)))
        return started / (1 + math.exp(1.5 * (hour - self._shift_end)))

    def next_ms(self, ts_ms: int) -> int:
        return ts_ms + round(INTERVAL_MS * self._rng.uniform(0.96, 1.04))

    def reading(self, ts_ms: int) -> Reading:
        return self._measured(ts_ms, self._load(ts_ms))

    def _measured(self, ts_ms: int, load: float) -> Reading:
        rng = self._rng
        self._last_noise = 0.8 * self._last_noise + rng.gauss(0, 0.25)
        weather = self._season * math.sin((hour_of_day(ts_ms) - 9) * math.pi / 12)
        wear = self._wear_per_day * (ts_ms - START_MS) / DAY_MS
        return {
            "temperature": round(self._warm + weather + wear + self._heat * load + self._last_noise, 2),
            "vibration": round((0.2 + self._vibration * load) * rng.lognormvariate(0, 0.08), 3),
            "current": round(self._idle_current + self._load_current * load + rng.gauss(0, 0.2), 2),
        }

    def anomaly(self, kind: str, ts_ms: int) -> Anomaly:
        rng = self._rng
        if kind == SPIKE:
            field, size = rng.choice((("temperature", 25.0), ("vibration", 8.0), ("current", 20.0)))
            return Anomaly([ts_ms], lambda index, normal: {**normal, field: round(_number(normal, field) + size, 3)})
        if kind == STUCK:
            field, value = rng.choice((("temperature", 95.0), ("vibration", 10.0), ("current", 40.0)))
            return Anomaly(self._times(ts_ms, 24), lambda index, normal: {**normal, field: value})
        if kind == LEAK:
            heat, current = rng.uniform(0.5, 0.8), rng.uniform(0.15, 0.3)

            def leaking(index: int, normal: Reading) -> Reading:
                return {
                    **normal,
                    "temperature": round(_number(normal, "temperature") + heat * (index + 1), 2),
                    "current": round(_number(normal, "current") + current * (index + 1), 2),
                }

            return Anomaly(self._times(ts_ms, 30), leaking)
        if kind == NIGHT:
            night_ms = at_hour(ts_ms, rng.uniform(23.5, 27) % 24)
            times = self._times(night_ms, 12)
            return Anomaly(times, lambda index, normal: self._measured(times[index], 1.0))
        return Anomaly([ts_ms, ts_ms + round(rng.uniform(4, 8) * HOUR_MS)], lambda index, normal: normal)

    def _times(self, ts_ms: int, count: int) -> list[int]:
        return spaced(ts_ms, [INTERVAL_MS * self._rng.uniform(0.96, 1.04) for _ in range(count - 1)])


def _number(reading: Reading, field: str) -> float:
    value = reading[field]
    assert isinstance(value, float)
    return value


SENSORS = Scenario(
    name="sensors",
    title="machine sensors",
    key_field="device",
    plot_field="temperature",
    log_scale=False,
    kinds=(SPIKE, STUCK, LEAK, NIGHT, SILENCE),
    subjects=lambda seed: [Device(number, seed) for number in range(DEVICES)],
    events_per_s=DEVICES / INTERVAL_MS * 1000,
    episode_every_ms=2 * HOUR_MS,
    tolerance_ms=90 * MINUTE_MS,
)
