"""From the scorer's explanation to words and figures in the units of the fields.

An `Explanation` speaks of features (z-scores, logarithms); a reader of an alert wants to know
that the amount was 812.40 where 35 to 90 was expected. Nothing here depends on the clock, the
locale or on which other events share the batch, so a replay tells the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from stream_ad.batch import F64, I64, Explanation, FeatureBatch
from stream_ad.config.features import Feature, FeatureSpec
from stream_ad.messages.phrases import duration, number, number_range

Direction = Literal["above", "below", "novel", "known", "rare", "frequent", "missing", "present", "unusual"]

# of features with about the same share, the one that is told best speaks for its field
_TOLD_BEST = (
    "missing",
    "novelty",
    "novelty_overall",
    "zscore",
    "raw",
    "log1p",
    "gap",
    "count",
    "sum",
    "diff",
    "rate",
    "frequency",
    "frequency_overall",
)
_LEVELS = {"raw", "log1p", "zscore", "diff"}
_DERIVED = {
    "rate": "change of {} per second",
    "mean": "mean of {}",
    "std": "spread of {}",
    "min": "lowest {}",
    "max": "highest {}",
    "ew_mean": "recent mean of {}",
    "ew_std": "recent spread of {}",
}
_FIGURES = {"gap", "count", "sum", *_LEVELS, *_DERIVED}
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_RANGE = 2.0  # spreads either side of the expected value
_DAY_MS = 86_400_000
_WORTH_TELLING = 0.05  # share of the row's error below which only the greatest is told


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
    lag_rows: int
    x: float
    expected: float
    spread: float
    values: F64  # [w,d] of the row
    age_ms: I64  # [w]
    base: F64  # [d,2]
    ts_ms: int  # of the row's newest event
    category: str  # of the row's newest event; "" = missing

    @property
    def lag(self) -> int:
        return len(self.age_ms) - 1 - self.lag_rows


def contributors(
    batch: FeatureBatch, rows: I64, explanation: Explanation, spec: FeatureSpec, top: int = 3
) -> list[list[Contributor]]:
    """The features that made `rows` [k] of `batch` anomalous, greatest share first, `top` at most.

    `explanation` belongs to `batch.x[rows]`. A feature's contribution is summed over the lags and
    told at the lag with the largest one; features of one field are told once.
    """
    groups: dict[str, list[int]] = {}
    for index, feature in enumerate(spec.features):
        kind = feature.kind.removesuffix("_sin").removesuffix("_cos")
        groups.setdefault(feature.field or f"${kind}", []).append(index)
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
    contribution = np.nan_to_num(explanation.contribution[i].astype(np.float64))  # [w,f]
    share = contribution.sum(axis=0)  # [f]
    ranked = sorted(
        ((float(sum(share[index] for index in group)), group) for group in groups), key=lambda pair: -pair[0]
    )
    window = int(batch.row[row])
    windows = batch.windows
    events = windows.keyed.events
    told: list[Contributor] = []
    for total, group in ranked[:top]:
        if not total > 0 or (told and total < _WORTH_TELLING):
            break
        greatest = max(share[index] for index in group)
        index = min(
            (index for index in group if share[index] >= greatest / 2),
            key=lambda index: (_tellability(spec.features[index].kind), -share[index]),
        )
        feature = spec.features[index]
        lag = int(contribution[::-1, index].argmax())  # of equal lags the newest
        position = len(contribution) - 1 - lag
        category = b""
        if feature.field in spec.categorical:
            category = events.cats[feature.column][window]
        cell = _Cell(
            feature=feature,
            lag_rows=lag,
            x=float(batch.x[row, position, index]),
            expected=float(explanation.expected[i, position, index]),
            spread=float(explanation.spread[index]),
            values=windows.values[window],
            age_ms=windows.age_ms[window],
            base=batch.base[row],
            ts_ms=int(events.ts_ms[window]),
            category=category.decode("utf-8", "backslashreplace"),
        )
        told.append(_told(cell, total))
    return told


def _tellability(kind: str) -> int:
    return _TOLD_BEST.index(kind) if kind in _TOLD_BEST else len(_TOLD_BEST)


def _told(cell: _Cell, share: float) -> Contributor:
    kind = cell.feature.kind
    deviations: float | None = None
    if cell.spread > 0 and math.isfinite(cell.x - cell.expected):
        deviations = abs(cell.x - cell.expected) / cell.spread
    observed: float | str | None
    expected = low = high = None
    if math.isnan(cell.x):
        observed, direction, text = None, "missing", f"{_subject(cell)} has no value"
    elif kind in _FIGURES:
        observed, expected, low, high = _figures(cell)
        direction = "above" if cell.x >= cell.expected else "below"
        text = _figure_text(cell, observed, expected, low, high, direction)
    elif kind == "missing":
        observed, direction = (None, "missing") if cell.x >= cell.expected else ("present", "present")
        text = f"{cell.feature.field} is missing" if direction == "missing" else f"{cell.feature.field} is present"
        text += "" if direction == "missing" else ", usually missing"
    elif kind.startswith(("novelty", "frequency")):
        observed, direction, text = _category(cell)
        if kind.startswith("frequency"):
            expected, low, high = (_share(end) for end in _ends(cell))
            text += f", expected {number_range(100 * low, 100 * high)} %" if cell.spread > 0 else ""
    else:
        observed, direction = _moment(cell), "unusual"
        text = f"{observed} is an unusual {'day' if kind.startswith('day') else 'time of day'}"
    if not cell.spread > 0:
        low = high = None  # a scorer that has learnt nothing knows no range
    return Contributor(
        feature=cell.feature.name,
        field=cell.feature.field,
        kind=kind,
        observed=observed,
        expected=expected,
        low=low,
        high=high,
        direction=direction,  # type: ignore[arg-type]
        lag_rows=cell.lag_rows,
        share=share,
        deviations=deviations,
        text=text + when(cell.lag_rows),
    )


def _figures(cell: _Cell) -> tuple[float, float, float, float]:
    """Observed, expected, low, high in original units. Inverts the feature at the cell's lag."""
    kind, column, lag = cell.feature.kind, cell.feature.column, cell.lag
    ends = _ends(cell)
    value = float(cell.values[lag, column]) if kind in _LEVELS else math.nan
    if kind in ("log1p", "sum"):
        expected, low, high = (math.copysign(_expm1(abs(end)), end) for end in ends)
        observed = value if math.isfinite(value) else math.copysign(_expm1(abs(cell.x)), cell.x)
    elif kind in ("gap", "count"):
        expected, low, high = (_expm1(max(end, 0.0)) for end in ends)
        observed = _expm1(max(cell.x, 0.0))
    elif kind == "zscore":
        # the base is that of the newest event; it moves slowly, so it stands for older lags too
        mean, deviation = (float(part) for part in cell.base[column])
        expected, low, high = (mean + end * deviation for end in ends)
        observed = value if math.isfinite(value) else mean + cell.x * deviation
    elif kind == "diff" and math.isfinite(value):
        # value less its change is the previous value, even where the window no longer holds that
        expected, low, high = (value + (end - cell.x) for end in ends)
        observed = value
    else:
        expected, low, high = ends
        observed = value if math.isfinite(value) else cell.x
    return observed, expected, min(low, high), max(low, high)


def _expm1(x: float) -> float:
    return math.expm1(min(x, 700.0))


def _share(logarithm: float) -> float:
    return math.exp(min(logarithm, 0.0))


def _ends(cell: _Cell) -> tuple[float, float, float]:
    """Expected, low, high in units of the feature."""
    reach = _RANGE * max(cell.spread, 0.0)
    return cell.expected, cell.expected - reach, cell.expected + reach


def _figure_text(cell: _Cell, observed: float, expected: float, low: float, high: float, direction: str) -> str:
    show = duration if cell.feature.kind == "gap" else number
    text = f"{_subject(cell)} {show(observed)}"
    if not math.isfinite(expected + low + high):
        return f"{text}, {direction}"
    if not cell.spread > 0:
        return f"{text}, usually {show(expected)}"
    ends = number_range(low, high) if show is number else " to ".join(dict.fromkeys(map(duration, (low, high))))
    return f"{text}, expected {ends}, {number(abs(cell.x - cell.expected) / cell.spread, 1)} σ {direction}"


def _subject(cell: _Cell) -> str:
    feature = cell.feature
    if feature.kind == "gap":
        return "time since the previous event"
    if feature.kind == "count":
        return f"events in {duration(feature.parameter / 1000)}"
    if feature.kind == "sum":
        return f"sum of {feature.field} in {duration(feature.parameter / 1000)}"
    return _DERIVED.get(feature.kind, "{}").format(feature.field)


def _category(cell: _Cell) -> tuple[str | None, Direction, str]:
    kind, field = cell.feature.kind, cell.feature.field
    # the text of older categories is not kept, and must not depend on what shares the batch
    observed = cell.category if cell.lag_rows == 0 and cell.category else None
    subject = f"{field} {observed}" if observed is not None else field
    overall = kind.endswith("_overall")
    high = cell.x >= cell.expected
    if kind.startswith("novelty"):
        if high:
            return observed, "novel", f"{subject} never seen for {'any' if overall else 'this'} key"
        return observed, "known", f"{subject} seen before, where new ones are usual"
    share = number(100 * _share(cell.x))
    return (
        observed,
        "frequent" if high else "rare",
        f"{subject} in {share} % of the events of {'all keys' if overall else 'this key'}",
    )


def _moment(cell: _Cell) -> str:
    age_ms = max(int(cell.age_ms[cell.lag]), 0)
    days, rest_ms = divmod(cell.ts_ms - age_ms, _DAY_MS)
    if cell.feature.kind.startswith("day"):
        return _DAYS[(days + 3) % 7]
    return f"{rest_ms // 3_600_000:02d}:{rest_ms // 60_000 % 60:02d} UTC"


def when(lag_rows: int) -> str:
    if lag_rows == 0:
        return ""
    return " (the event before)" if lag_rows == 1 else f" ({lag_rows} events before)"
