"""The figures of a field of which moments are learnt, and what of them counts by the field's rules."""

from __future__ import annotations

import math

from stream_ad.batch import F64, I64
from stream_ad.config.feature_kinds.given import signed_log1p, within_limit
from stream_ad.config.feature_kinds.row import State
from stream_ad.config.feature_kinds.windowed import deviation
from stream_ad.fold.features.moments import MEAN, OWN_COUNT, PREVIOUS
from stream_ad.kernel import inlined

LEAST_OF_SPREAD = 4  # values in the window


@inlined
def newest(values: F64, i: int, c: int) -> float:
    return within_limit(values[i, values.shape[1] - 1, c])


@inlined
def counted(value: float, mean: float, direction: int, room: float) -> float:
    """The value, or what was expected where its field's rule lets the deviation not count."""
    delta = value - mean
    wrong_way = (direction > 0 and delta < 0.0) or (direction < 0 and delta > 0.0)
    return mean if wrong_way or abs(delta) < room else value


@inlined
def from_logarithm(figure: float) -> float:
    return math.copysign(math.expm1(abs(figure)), figure)


@inlined
def counted_figure(kind: int, figure: float, mean: float, direction: int, room: float) -> float:
    """The same of a figure. A spread has no way, and that of a logarithm is as far as its value's."""
    if kind == State.SPREAD:
        return figure
    if kind == State.LOGARITHM:
        room = math.inf if abs(from_logarithm(figure) - from_logarithm(mean)) < room else 0.0
    return counted(figure, mean, direction, room)


@inlined
def hold(held: F64, values: F64, i: int, c: int, mean: float, direction: int, room: float) -> None:
    for row in range(len(held)):
        held[row] = counted(within_limit(values[i, row, c]), mean, direction, room)


@inlined
def present(held: F64) -> int:
    count = 0
    for value in held:
        if value == value:
            count += 1
    return count


@inlined
def figure(
    kind: int, fields: F64, values: F64, held: F64, s: int, i: int, c: int, mean: float, direction: int, room: float
) -> float:
    """What moments are learnt of: the value, its change, or the spread of what counts of the window."""
    value = newest(values, i, c)
    if kind == State.LOGARITHM:
        return signed_log1p(value)
    if kind == State.CHANGE:
        return value - fields[s, c, PREVIOUS] if fields[s, c, OWN_COUNT] > 0 else math.nan
    if kind == State.SPREAD and value == value:
        hold(held, values, i, c, mean, direction, room)
        return deviation(held) if present(held) >= LEAST_OF_SPREAD else math.nan
    return value


@inlined
def measure(
    figures: F64, kinds: I64, columns: I64, fields: F64, values: F64, held: F64, s: int, i: int, expectation: F64,
    shift: F64, direction: I64, room: F64,
) -> None:  # fmt: skip
    for q in range(len(figures)):
        c = columns[q]
        figures[q] = figure(kinds[q], fields, values, held, s, i, c, expectation[c, MEAN], direction[c], room[c])
        figures[q] -= shift[q]


@inlined
def make_room(room: F64, expectation: F64, least: F64, least_share: F64) -> None:
    """Of each field, the first of the expectations: how far a value may deviate without being counted."""
    for c in range(len(room)):
        share = least_share[c] * abs(expectation[c, MEAN])
        room[c] = share if share > least[c] else least[c]
