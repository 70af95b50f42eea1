"""Turns the scorer's explanation into words and figures in the units of the fields.

An `Explanation` is in units of features (z-scores, logarithms); the reader of an alert wants to know that the amount
was 812.40 where 35 to 90 was expected. Nothing here depends on the clock, the locale or the other events of the batch,
so a replay gives the same words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, assert_never

import numpy as np

from stream_ad.batch import F64, I64, EventBatch, Explanation, FeatureBatch
from stream_ad.config.feature_kinds.reading import (
    Direction,
    Figure,
    Indicator,
    Level,
    Moment,
    Rise,
    Seen,
    Share,
    Unit,
)
from stream_ad.config.feature_kinds.row import EXPECTING, FeatureKind, Of, Parameter, State
from stream_ad.config.features import BETWEEN, Feature, FeatureSpec
from stream_ad.messages.blame import of_fields
from stream_ad.messages.phrases import duration, number, number_range

_RANGE = 2.0  # spreads either side of the expected value
_LEAST_SHARE = 0.05  # contributors with a smaller share of the row's error are left out, unless there is no other


@dataclass(frozen=True, slots=True)
class Contributor:
    """One reason of an alert, in original units."""

    feature: str  # as in "amount.zscore"
    field: str  # dotted path; "" for the event itself
    kind: str
    observed: float | str | None  # None where there is no value
    expected: float | None
    low: float | None  # expected less two spreads
    high: float | None
    direction: Direction
    lag_rows: int  # events of the key before the one the alert is about
    share: float  # of the row's error, over all lags and over all features of the field
    deviations: float | None  # distance from the expected value in spreads
    text: str


@dataclass(frozen=True, slots=True)
class _Cell:
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


def out_of_range(field: str, value: float, valid: Sequence[float]) -> Contributor:
    """The reason of an alert about a value outside `valid`."""
    low, high = valid
    direction: Direction = "above" if value > high else "below"
    return Contributor(
        feature=field,
        field=field,
        kind="range",
        observed=value,
        expected=None,
        low=low,
        high=high,
        direction=direction,
        lag_rows=0,
        share=1.0,
        deviations=None,
        text=f"{field} {number(value)} is {direction} its valid range, {number(low)} to {number(high)}",
    )


def contributors(
    batch: FeatureBatch, rows: I64, explanation: Explanation, spec: FeatureSpec, top: int = 3
) -> list[list[Contributor]]:
    """The features that made `rows` [k] of `batch` anomalous, greatest share first, `top` at most.

    `explanation` belongs to `batch.x[rows]`. A joint feature shares its contribution with the fields it is made of, and
    keeps it where they deviate less than it does. A feature's contribution is summed over the lags; observed and
    expected are those of the lag with the largest one. Of several features of one field one contributor is made.
    """
    groups: dict[str, list[int]] = {}
    for index, feature in enumerate(spec.features):
        groups.setdefault(feature.field or f"${spec.kind_of(feature).name}", []).append(index)
    return [
        _of_row(batch, int(row), explanation, i, spec, list(groups.values()), top)
        for i, row in enumerate(rows.tolist())
    ]


def _of_row(
    batch: FeatureBatch,
    row: int,
    explanation: Explanation,
    i: int,
    spec: FeatureSpec,
    groups: list[list[int]],
    top: int,
) -> list[Contributor]:
    contribution = of_fields(explanation.contribution[i], batch.x[row], spec)
    share = contribution.sum(axis=0)  # [f]
    ranked = sorted(
        ((float(sum(share[index] for index in group)), group) for group in groups), key=lambda pair: -pair[0]
    )
    window = int(batch.row[row])
    windows = batch.windows
    events = windows.keyed.events
    chosen: list[Contributor] = []
    for total, group in ranked[:top]:
        if not total > 0 or (chosen and total < _LEAST_SHARE):
            break
        greatest = max(share[index] for index in group)
        index = min(
            (index for index in group if share[index] >= greatest / 2),
            key=lambda index: (spec.kind_of(spec.features[index]).rank, -share[index]),
        )
        feature = spec.features[index]
        lag = int(contribution[::-1, index].argmax())  # of equal lags the newest
        position = len(contribution) - 1 - lag
        cell = _Cell(
            feature=feature,
            kind=spec.kind_of(feature),
            lag_rows=lag,
            x=float(batch.x[row, position, index]),
            expected=float(explanation.expected[i, position, index]),
            spread=float(explanation.spread[index]),
            values=windows.values[window],
            age_ms=windows.age_ms[window],
            base=_base(batch, row, feature, spec),
            ts_ms=int(events.ts_ms[window]),
            categories=_categories(events, window, feature, spec),
        )
        chosen.append(_contributor(cell, total))
    return chosen


def _categories(events: EventBatch, row: int, feature: Feature, spec: FeatureSpec) -> tuple[tuple[str, str], ...]:
    """The fields of a category, which are two for a pair, with their texts; () where one is missing."""
    if spec.kind_of(feature).of is not Of.CATEGORY:
        return ()
    c = len(spec.categorical)
    columns = (feature.column,) if feature.column < c else spec.pairs[feature.column - c]
    texts = [events.cats[column][row].decode("utf-8", "backslashreplace") for column in columns]
    return tuple((spec.categorical[column], text) for column, text in zip(columns, texts, strict=True)) * all(texts)


def _base(batch: FeatureBatch, row: int, feature: Feature, spec: FeatureSpec) -> F64:
    kind = spec.kind_of(feature)
    if kind.of is not Of.NUMBER:
        return np.full(2, np.nan)
    state = kind.state if kind.state in EXPECTING else State.MOMENTS
    base: F64 = batch.base[row, spec.expected.index((state, feature.column))]
    return base


class _Described(NamedTuple):
    text: str
    observed: float | str | None
    direction: Direction
    ends: tuple[float, float, float] | None = None  # expected, low, high


def _contributor(cell: _Cell, share: float) -> Contributor:
    deviations: float | None = None
    if cell.spread > 0 and math.isfinite(cell.x - cell.expected):
        deviations = abs(cell.x - cell.expected) / cell.spread
    described = _describe(cell)
    expected, low, high = described.ends or (None, None, None)
    if not cell.spread > 0:
        low = high = None  # a scorer that learns nothing knows no range
    return Contributor(
        feature=cell.feature.name,
        field=cell.feature.field,
        kind=cell.feature.kind,
        observed=described.observed,
        expected=expected,
        low=low,
        high=high,
        direction=described.direction,
        lag_rows=cell.lag_rows,
        share=share,
        deviations=deviations,
        text=described.text + when(cell.lag_rows),
    )


def _describe(cell: _Cell) -> _Described:
    reading, seen, high = cell.kind.reading, _seen(cell), cell.x >= cell.expected
    if math.isnan(cell.x):
        subject = cell.feature.field or cell.kind.name
        if isinstance(reading, Level | Figure):
            subject = _phrase(cell, reading.phrase)
        return _Described(f"{subject} has no value", None, "missing")
    if isinstance(reading, Level):
        return _figure(cell, reading, seen.value if math.isfinite(seen.value) else reading.inverse(cell.x, seen))
    if isinstance(reading, Figure):
        return _figure(cell, reading, reading.inverse(cell.x, seen))
    if isinstance(reading, Share):
        expected, low, top = map(_share, _ends(cell))
        text = _phrase(cell, reading.phrase, share=number(100 * _share(cell.x)))
        text += f", expected {number_range(100 * low, 100 * top)} %" if cell.spread > 0 else ""
        return _Described(text, seen.category, "frequent" if high else "rare", (expected, low, top))
    if isinstance(reading, Rise):
        distance = f", {number(cell.x, 1)} σ above" if high else ""
        return _Described(_phrase(cell, reading.phrase) + distance, seen.category, "frequent" if high else "rare")
    if isinstance(reading, Indicator):
        phrase = reading.phrase if high else reading.otherwise
        return _Described(_phrase(cell, phrase), reading.inverse(high, seen), reading.directions[0 if high else 1])
    if isinstance(reading, Moment):
        moment = reading.words(cell.ts_ms - max(int(cell.age_ms[cell.lag]), 0))
        return _Described(_phrase(cell, reading.phrase, moment=moment), moment, "unusual")
    assert_never(reading)


def _figure(cell: _Cell, reading: Level | Figure, observed: float) -> _Described:
    seen = _seen(cell)
    expected, low, high = (reading.inverse(end, seen) for end in _ends(cell))
    low, high = min(low, high), max(low, high)
    direction: Direction = "above" if cell.x >= cell.expected else "below"
    show = duration if isinstance(reading, Figure) and reading.unit is Unit.SECONDS else number
    text = f"{_phrase(cell, reading.phrase)} {show(observed)}"
    if not math.isfinite(expected + low + high):
        text += f", {direction}"
    elif not cell.spread > 0:
        text += f", usually {show(expected)}"
    else:
        ends = number_range(low, high) if show is number else " to ".join(dict.fromkeys(map(duration, (low, high))))
        text += f", expected {ends}, {number(abs(cell.x - cell.expected) / cell.spread, 1)} σ {direction}"
    return _Described(text, observed, direction, (expected, low, high))


def _seen(cell: _Cell) -> Seen:
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


def _ends(cell: _Cell) -> tuple[float, float, float]:
    """Expected, low, high in units of the feature."""
    reach = _RANGE * max(cell.spread, 0.0)
    return cell.expected, cell.expected - reach, cell.expected + reach


def _phrase(cell: _Cell, phrase: str, **own: str) -> str:
    field, parameter = cell.feature.field, cell.feature.parameter
    category = " with ".join(f"{one} {text}" for one, text in cell.categories) if cell.lag_rows == 0 else ""
    return phrase.format(
        field=field,
        category=category or field,
        parameter=duration(parameter / 1000) if cell.kind.parameter is Parameter.SPAN else number(parameter),
        **own,
    )


def when(lag_rows: int) -> str:
    if lag_rows == 0:
        return ""
    return " (the event before)" if lag_rows == 1 else f" ({lag_rows} events before)"
