"""Card payments: every card has its merchants, its usual amounts, its hours, and a slow drift of all that."""

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

CARDS = 1500
PAYMENTS_PER_DAY = 15.0
MERCHANTS = 600
COUNTRIES = ("DE", "FR", "NL", "IT", "ES", "PL", "AT", "CH")
ABROAD = ("US", "BR", "NG", "TH", "VN")

HUGE = "huge amount"
UNUSUAL = "unusual for the card"
BURST = "burst of small payments"
STRANGER = "unknown country"


class Card:
    def __init__(self, number: int, seed: int) -> None:
        self.key = f"card-{number:05d}"
        self._rng = rng = random.Random(f"transactions/{seed}/{number}")
        self._country = rng.choices(COUNTRIES, weights=(8, 4, 3, 3, 3, 2, 1, 1))[0]
        self._merchants = rng.sample(range(MERCHANTS), rng.randint(4, 8))
        self._weights = [1 / (rank + 1) for rank in range(len(self._merchants))]
        self._factor = [rng.uniform(0.75, 1.35) for _ in self._merchants]  # a merchant's usual amount for this card
        self._median = rng.lognormvariate(3.4, 0.6)
        self._spread = rng.uniform(0.15, 0.3)
        self._drift_per_day = rng.gauss(0, 0.01)
        self._peak_hour = rng.gauss(14, 2)
        self._mean_gap_ms = DAY_MS / (PAYMENTS_PER_DAY * rng.uniform(0.6, 1.4))

    def next_ms(self, ts_ms: int) -> int:
        # thinning (Lewis & Shedler 1979): candidates at the peak rate, each kept with the hour's share of that rate
        while True:
            ts_ms += 1 + round(self._rng.expovariate(2 / self._mean_gap_ms))
            day = 0.5 + 0.5 * math.cos((hour_of_day(ts_ms) - self._peak_hour) * math.pi / 12)
            if self._rng.random() < max(0.03, day):
                return ts_ms

    def reading(self, ts_ms: int) -> Reading:
        rng = self._rng
        median = self._median * math.exp(self._drift_per_day * (ts_ms - START_MS) / DAY_MS)
        if rng.random() < 0.04:  # now and then people buy somewhere new
            merchant, factor = rng.randrange(MERCHANTS), 1.0
        else:
            place = rng.choices(range(len(self._merchants)), self._weights)[0]
            merchant, factor = self._merchants[place], self._factor[place]
        amount = median * factor * rng.lognormvariate(0, self._spread)
        return {"amount": round(amount, 2), "merchant": f"m{merchant:03d}", "country": self._country}

    def anomaly(self, kind: str, ts_ms: int) -> Anomaly:
        rng = self._rng
        if kind == HUGE:
            huge = round(self._median * rng.uniform(20, 60), 2)
            return Anomaly([ts_ms], lambda index, normal: {**normal, "amount": huge})
        if kind == UNUSUAL:
            odd = round(self._median * rng.uniform(8, 12), 2)
            night_ms = at_hour(ts_ms, (self._peak_hour + 12) % 24)
            return Anomaly([night_ms], lambda index, normal: {**normal, "amount": odd})
        if kind == BURST:
            small = [round(rng.uniform(0.9, 4.9), 2) for _ in range(rng.randint(8, 15))]
            merchant = f"m{rng.randrange(MERCHANTS):03d}"
            times = spaced(ts_ms, [rng.uniform(10_000, 40_000) for _ in small[1:]])
            return Anomaly(times, lambda index, normal: {**normal, "amount": small[index], "merchant": merchant})
        country = rng.choice(ABROAD)
        shops = [f"m{rng.randrange(MERCHANTS):03d}" for _ in range(rng.randint(3, 5))]
        times = spaced(ts_ms, [rng.uniform(5, 20) * MINUTE_MS for _ in shops[1:]])
        return Anomaly(times, lambda index, normal: {**normal, "merchant": shops[index], "country": country})


TRANSACTIONS = Scenario(
    name="transactions",
    title="card payments",
    key_field="card_id",
    plot_field="amount",
    log_scale=True,
    kinds=(HUGE, UNUSUAL, BURST, STRANGER),
    subjects=lambda seed: [Card(number, seed) for number in range(CARDS)],
    events_per_s=CARDS * PAYMENTS_PER_DAY / 86_400,
    episode_every_ms=3 * HOUR_MS,
    tolerance_ms=12 * HOUR_MS,
)
