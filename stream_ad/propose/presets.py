"""What `stream-ad init --preset` knows of a domain beyond the sample: docs/quality.md has the figures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Preset:
    about: str
    beside: tuple[str, ...] = ()  # kinds of a number that has a zscore
    categories: tuple[str, ...] = ()  # kinds of a category, beside those of any sample
    rows: int | None = None  # of the window; None = as the sample shows
    false_alarm_rate: float | None = None  # None = the default
    budget: str = ""  # of incidents; "" = none
    joint: tuple[str, ...] | None = None  # what stands beside instead where numbers are judged together, if they are


PRESETS = {
    "transactions": Preset(
        "payments, orders, logins: many keys, each event counts",
        beside=("zscore_overall",),
        rows=8,
    ),
    "network": Preset(
        "connections and flows: a key that is attacked has known little else",
        beside=("zscore_overall",),
        categories=("burst_overall",),
        rows=16,
    ),
    "sensors": Preset(
        "physical quantities at regular intervals: anomalies last",
        rows=16,
        false_alarm_rate=1e-3,
        budget="20/day",
    ),
    "servers": Preset(
        "metrics of machines and services: bursts and their ends",
        beside=("zscore_std", "zscore_daily"),
        rows=16,
        false_alarm_rate=1e-3,
        budget="20/day",
        joint=("zscore_daily",),
    ),
}
