"""One feature in words and figures, in the units of its field."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, assert_never

from stream_ad.batch import F64, I64
from stream_ad.config.feature_kinds.reading import (
    Direction,
    Figure,
    Indicator,
    Least,
    Level,
    Moment,
    Rise,
    Seen,
    Share,
    Unit,
)
from stream_ad.config.feature_kinds.row import FeatureKind, Of, Parameter
from stream_ad.config.features import BETWEEN, Feature
from stream_ad.messages.phrases import beside, beside_seconds, duration, number

RANGE = 2.0  # spreads either side of the expected value
_DIGITS = 6  # that a feature, which is a float32, has of a figure


@dataclass(frozen=True, slots=True)
class Cell:
    """One feature at one lag of one row."""

    feature: Feature
    kind: FeatureKind
    lag_rows: int
    x: float
    expected: float
    spread: float
    values: F64  # [w,d] of the row
    age_ms: I64  # [w]
    base: F64  # [2]  mean and deviation that were expected of what the feature is about, or else of its field
    ts_ms: int  # of the row's newest event
    categories: tuple[tuple[str, str], ...]  # field and text of the row's newest event, two for a pair; () = missing

    @property
    def lag(self) -> int:
        return len(self.age_ms) - 1 - self.lag_rows


class Described(NamedTuple):
    text: str
    observed: float | str | None
    direction: Direction
    ends: tuple[float, float, float] | None = None  # expected, low, high


def describe(cell: Cell) -> Described:
    reading, seen, high = cell.kind.reading, _seen(cell), cell.x >= cell.expected
    if math.isnan(cell.x):
        subject = cell.feature.field or cell.kind.name
        if isinstance(reading, Level | Figure):
            subject = _phrase(cell, reading.phrase)
        return Described(f"{subject} has no value", None, "missing")
    if isinstance(reading, Level):
        return _figure(cell, reading, seen.value if math.isfinite(seen.value) else reading.inverse(cell.x, seen))
    if isinstance(reading, Figure):
        return _figure(cell, reading, reading.inverse(cell.x, seen))
    if isinstance(reading, Share):
        expected, low, top = map(_share, _ends(cell))
        share, ends = beside(100 * _share(cell.x), 100 * low, 100 * top)
        text = _phrase(cell, reading.phrase, share=share) + (f", expected {ends} %" if cell.spread > 0 else "")
        return Described(text, seen.category, "frequent" if high else "rare", (expected, low, top))
    if isinstance(reading, Rise):
        distance = f", {number(cell.x, 1)} σ above" if high else ""
        return Described(_phrase(cell, reading.phrase) + distance, seen.category, "frequent" if high else "rare")
    if isinstance(reading, Indicator):
        phrase = reading.phrase if high else reading.otherwise
        return Described(_phrase(cell, phrase), reading.inverse(high, seen), reading.directions[0 if high else 1])
    if isinstance(reading, Moment):
        moment = reading.words(cell.ts_ms - max(int(cell.age_ms[cell.lag]), 0))
        return Described(_phrase(cell, reading.phrase, moment=moment), moment, "unusual")
    assert_never(reading)


def _figure(cell: Cell, reading: Level | Figure, observed: float) -> Described:
    seen = _seen(cell)
    if isinstance(reading, Figure):
        observed = float(f"{observed:.{_DIGITS}g}")
    expected, low, high = (reading.inverse(end, seen) for end in _ends(cell))
    low, high = min(low, high), max(low, high)
    if _never_negative(cell, reading.least):
        low, high = max(low, 0.0), max(high, 0.0)
    direction: Direction = "above" if cell.x >= cell.expected else "below"
    seconds = isinstance(reading, Figure) and reading.unit is Unit.SECONDS
    subject = _phrase(cell, reading.phrase)
    if not math.isfinite(observed + expected + low + high):
        text = f"{subject} {(duration if seconds else number)(observed)}, {direction}"
    elif not cell.spread > 0:
        value, usual = (beside_seconds if seconds else beside)(observed, expected, expected)
        text = f"{subject} {value}, usually {usual}"
    else:
        value, ends = (beside_seconds if seconds else beside)(observed, low, high)
        far = number(abs(cell.x - cell.expected) / cell.spread, 1)
        text = f"{subject} {value}, expected {ends}, {far} σ {direction}"
    return Described(text, observed, direction, (expected, low, high))


def _never_negative(cell: Cell, least: Least) -> bool:
    """As far as the row can tell: of the field, that none of its values in the window is."""
    if least is not Least.FIELD or cell.kind.of is not Of.NUMBER:
        return least is Least.ZERO
    return bool(cell.base[0] >= 0.0) and not bool((cell.values[:, cell.feature.column] < 0.0).any())


def _seen(cell: Cell) -> Seen:
    is_number = cell.kind.of is Of.NUMBER
    return Seen(
        x=cell.x,
        value=float(cell.values[cell.lag, cell.feature.column]) if is_number else math.nan,
        # the base is that of the newest event; it moves slowly, so it stands for older lags too
        mean=float(cell.base[0]),
        deviation=float(cell.base[1]),
        # the text of older categories is not kept, and must not depend on what shares the batch
        category=BETWEEN.join(text for _, text in cell.categories) if cell.lag_rows == 0 and cell.categories else None,
    )


def _share(logarithm: float) -> float:
    return math.exp(min(logarithm, 0.0))


def _ends(cell: Cell) -> tuple[float, float, float]:
    """Expected, low, high in units of the feature."""
    reach = RANGE * max(cell.spread, 0.0)
    return cell.expected, cell.expected - reach, cell.expected + reach


def _phrase(cell: Cell, phrase: str, **own: str) -> str:
    field, parameter = cell.feature.field, cell.feature.parameter
    category = " with ".join(f"{one} {text}" for one, text in cell.categories) if cell.lag_rows == 0 else ""
    return phrase.format(
        field=field,
        category=category or field,
        parameter=duration(parameter / 1000) if cell.kind.parameter is Parameter.SPAN else number(parameter),
        **own,
    )
