"""Simulates days of incidents, and compares rules by which a budget is given to them (ADR 13)."""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
from rich.console import Console
from rich.table import Table

from stream_ad import config
from stream_ad.batch import F64, Alerts, Bool, Phase, Rule, Strings
from stream_ad.fold.budget import Budget

DAYS, MOST, SEVERE = 60, 20, 3  # simulated, told a day, severe ones a day
RATE = 1e-4
DAY_MS = 86_400_000
START_MS = 1_700_000_000_000
Given = Callable[[F64, F64], Bool]  # days [n] and severities [n] in decades -> which are told


def first_come(day: F64, severity: F64) -> Bool:
    return _granted(day, severity, lambda told, one: True)


def most_severe(day: F64, severity: F64) -> Bool:
    """Those among as many most severe ones of the last day as the budget has left."""
    asked: deque[tuple[float, float]] = deque()
    ranked: list[float] = []

    def is_told(told: int, at: tuple[float, float]) -> bool:
        while asked and asked[0][0] <= at[0] - 1.0:
            del ranked[bisect.bisect_left(ranked, asked.popleft()[1])]
        asked.append(at)
        bisect.insort(ranked, at[1])
        return len(ranked) - bisect.bisect_right(ranked, at[1]) < MOST - told

    return _granted(day, severity, is_told)


def controlled(day: F64, severity: F64) -> Bool:
    """Adaptive conformal inference alone, and no more than the budget."""
    level, before = 0.0, 0.0

    def is_told(told: int, at: tuple[float, float]) -> bool:
        nonlocal level, before
        level, before = max(level - (at[0] - before), 0.0), at[0]
        above = at[1] > level
        level += above / MOST
        return above

    return _granted(day, severity, is_told)


def ours(day: F64, severity: F64) -> Bool:
    """The fold, as a pipeline of one partition has it."""
    n = len(day)
    fold = Budget(config.Incidents(budget=config.Budget(incidents=MOST, period_ms=DAY_MS)), RATE)
    zero, nowhere = np.zeros(n, np.int64), np.full(n, np.nan)
    ms = START_MS + (day * DAY_MS).astype(np.int64)
    asking = Alerts(
        rule=np.full(n, Rule.score, np.uint8),
        phase=np.full(n, Phase.opened, np.uint8),
        offset=np.arange(n),
        incident=np.arange(n),
        about=np.arange(n),
        key=Strings.of([b"k"] * n),
        row=zero,
        ts_ms=ms,
        opened_ms=ms,
        events=zero + 1,
        score=nowhere,
        threshold=nowhere,
        p_value=RATE * 10.0**-severity,
        peak_p=nowhere,
        expected_ms=zero,
        silent_ms=zero,
        slot=zero,
        now_ms=ms,
    )
    told = np.zeros(n, np.bool_)
    told[fold.step(fold.init(1), asking).offset] = True
    return told


def _granted(day: F64, severity: F64, is_told: Callable[[int, tuple[float, float]], bool]) -> Bool:
    """By a rule that is asked in turn, with how many were told within the last day."""
    told, latest = np.zeros(len(day), np.bool_), deque[float]()
    for row, at in enumerate(zip(day.tolist(), severity.tolist(), strict=True)):
        while latest and latest[0] <= at[0] - 1.0:
            latest.popleft()
        if is_told(len(latest), at) and len(latest) < MOST:
            told[row] = True
            latest.append(at[0])
    return told


RULES: dict[str, Given] = {
    "first come, first served": first_come,
    "the controller, and no more than the budget": controlled,
    "among the most severe of the last day": most_severe,
    "the controller at four fifths, the first half free": ours,
}


def streams() -> Iterator[tuple[str, F64, F64, Bool]]:
    """Name, days, severities, and which are severe: mild ones have exponential severity."""
    noise = np.random.default_rng(1)
    bursts = [day + 0.3 + noise.uniform(0, 0.05, 2000) for day in range(0, DAYS, 3)]
    mild = {
        "calm, 5 a day": noise.uniform(0, DAYS, 5 * DAYS),
        "600 a day": noise.uniform(0, DAYS, 600 * DAYS),
        "20,000 a day": noise.uniform(0, DAYS, 20_000 * DAYS),
        "6 rising to 6,000": DAYS * noise.uniform(0, 1, 60_000) ** (1 / 8),
        "a burst of 2,000 every third day": np.concatenate([noise.uniform(0, DAYS, 5 * DAYS), *bursts]),
    }
    for name, days in mild.items():
        day = np.concatenate([days, noise.uniform(0, DAYS, SEVERE * DAYS)])
        severity = np.concatenate([noise.exponential(1 / np.log(10), len(days)), noise.uniform(4, 9, SEVERE * DAYS)])
        order = np.argsort(day, kind="stable")
        yield name, day[order], severity[order], order >= len(days)


def main(console: Console) -> dict[str, dict[str, list[float]]]:
    """Told a day, and the share of the severe ones that is told, by each rule in each stream."""
    table = Table("rule", title=f"{MOST} may be told a day: told a day / share of the severe that is told")
    figures: dict[str, dict[str, list[float]]] = {rule: {} for rule in RULES}
    for name, day, severity, severe in streams():
        table.add_column(name, justify="right")
        for rule, given in RULES.items():
            with console.status(f"{name}: {rule}"):
                told = given(day, severity)
            figures[rule][name] = [float(told.sum()) / DAYS, float(told[severe].mean())]
    for rule, of_stream in figures.items():
        table.add_row(rule, *(f"{a_day:.1f} / {share:.2f}" for a_day, share in of_stream.values()))
    console.print(table)
    return figures
