"""Turns the scorer's explanation into words and figures in the units of the fields.

An `Explanation` is in units of features (z-scores, logarithms); the reader of an alert wants to know that the amount
was 812.40 where 35 to 90 was expected. Nothing here depends on the clock, the locale or the other events of the batch,
so a replay gives the same words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stream_ad.batch import F64, I64, EventBatch, Explanation, FeatureBatch
from stream_ad.config.feature_kinds.reading import Direction
from stream_ad.config.feature_kinds.row import EXPECTING, Of, State
from stream_ad.config.features import Feature, FeatureSpec
from stream_ad.errors import printable
from stream_ad.messages.blame import of_fields
from stream_ad.messages.describe import RANGE, Cell, describe
from stream_ad.messages.phrases import number

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

    @property
    def outside(self) -> bool:
        """Whether the value is not what was expected; without a range, whether it is another."""
        return self.deviations is None or self.deviations > RANGE


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

    What lies within its expected range is no reason; if nothing is outside, the one with the greatest share is told.

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
    chosen: list[Contributor] = []
    for total, group in ranked:
        if not total > 0 or (chosen and total < _LEAST_SHARE):
            break
        greatest = max(share[index] for index in group)
        told = [
            (_contributor(_cell(batch, row, explanation, i, contribution, index, spec), total), index)
            for index in group
            if share[index] >= greatest / 2
        ]
        chosen.append(
            min(told, key=lambda one: (not one[0].outside, spec.kind_of(spec.features[one[1]]).rank, -share[one[1]]))[0]
        )
    return [one for one in chosen if one.outside][:top] or chosen[:1]


def _cell(
    batch: FeatureBatch, row: int, explanation: Explanation, i: int, contribution: F64, index: int, spec: FeatureSpec
) -> Cell:
    """The feature at the lag that contributes most."""
    feature, windows, window = spec.features[index], batch.windows, int(batch.row[row])
    lag = int(contribution[::-1, index].argmax())  # of equal lags the newest
    position = len(contribution) - 1 - lag
    return Cell(
        feature=feature,
        kind=spec.kind_of(feature),
        lag_rows=lag,
        x=float(batch.x[row, position, index]),
        expected=float(explanation.expected[i, position, index]),
        spread=float(explanation.spread[index] if explanation.spread.ndim == 1 else explanation.spread[i, index]),
        values=windows.values[window],
        age_ms=windows.age_ms[window],
        base=_base(batch, row, feature, spec),
        ts_ms=int(windows.keyed.events.ts_ms[window]),
        categories=_categories(windows.keyed.events, window, feature, spec),
    )


def _categories(events: EventBatch, row: int, feature: Feature, spec: FeatureSpec) -> tuple[tuple[str, str], ...]:
    """The fields of a category, which are two for a pair, with their texts; () where one is missing."""
    if spec.kind_of(feature).of is not Of.CATEGORY:
        return ()
    c = len(spec.categorical)
    columns = (feature.column,) if feature.column < c else spec.pairs[feature.column - c]
    texts = [events.cats[column][row].decode("utf-8", "backslashreplace") for column in columns]
    return tuple(
        (spec.categorical[column], printable(text)) for column, text in zip(columns, texts, strict=True)
    ) * all(texts)


def _base(batch: FeatureBatch, row: int, feature: Feature, spec: FeatureSpec) -> F64:
    kind = spec.kind_of(feature)
    if kind.of is not Of.NUMBER:
        return np.full(2, np.nan)
    state = kind.state if kind.state in EXPECTING else State.MOMENTS
    base: F64 = batch.base[row, spec.expected.index((state, feature.column))]
    return base


def _contributor(cell: Cell, share: float) -> Contributor:
    deviations: float | None = None
    if math.isfinite(cell.x - cell.expected) and (cell.spread > 0 or cell.x == cell.expected):
        deviations = abs(cell.x - cell.expected) / (cell.spread or 1.0)
    described = describe(cell)
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


def when(lag_rows: int) -> str:
    if lag_rows == 0:
        return ""
    return " (the event before)" if lag_rows == 1 else f" ({lag_rows} events before)"
