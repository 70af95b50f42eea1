"""Whether explanations name the field that moved: clean streams in which one field is shifted here and there.

The hit rate at k is the share of the flagged rows whose shifted field is among the first k that the explanation names.
It is the HitRate of OmniAnomaly (Su et al., KDD 2019) where one field is to blame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stream_ad.batch import F64, I64, Bool

SHIFT = 10.0  # of the key's standard deviations
STRETCH_ROWS = 10  # every second shift lasts so long, the others are of one row
EVERY_ROWS = 50  # of a key there is a shift
LEAST_ROWS = 2 * EVERY_ROWS  # of a key that is shifted at all


@dataclass(frozen=True, slots=True, eq=False)
class Shifted:
    """A stream with shifts, in the order of the log."""

    values: F64  # [n,d]
    field: I64  # [n]  that is shifted; -1 = none
    lasts: Bool  # [n]  whether the shift is a stretch


@dataclass(frozen=True, slots=True)
class Hits:
    """Shares are NaN where they are of nothing."""

    rows: int  # shifted, and explained
    flagged: float  # share of them
    first: float  # share of the flagged whose field is named first
    third: float  # share of the flagged whose field is among the first three
    all_first: float  # the same two of all shifted rows, flagged or not
    all_third: float


def halves(key: I64) -> Bool:
    """[n] numbers of keys -> which rows belong to the first half of their key's rows."""
    return _place(key) < (np.bincount(key) // 2)[key]


def shifted(values: F64, key: I64, seed: int = 0) -> Shifted:
    """Shifts one field of a row or of `STRETCH_ROWS` rows of a key, up or down, every `EVERY_ROWS` rows of the second
    half of each key: values [n,d], NaN = missing, keys [n] by number. A field that never moves is not shifted."""
    noise = np.random.default_rng(seed)
    moved, field, lasts = values.copy(), np.full(len(values), -1, np.int64), np.zeros(len(values), bool)
    for number in range(int(key.max(initial=-1)) + 1):
        rows = np.flatnonzero(key == number)
        if len(rows) < LEAST_ROWS:
            continue
        deviation = np.array([_deviation(column) for column in values[rows].T])
        movable = np.flatnonzero(deviation > 0)
        starts = range(len(rows) // 2 + EVERY_ROWS // 2, len(rows) - STRETCH_ROWS, EVERY_ROWS)
        for turn, start in enumerate(starts if len(movable) else ()):
            chosen = int(noise.choice(movable))
            stretch = (turn + number) % 2 == 1
            these = rows[start : start + (STRETCH_ROWS if stretch else 1)]
            these = these[np.isfinite(values[these, chosen])]
            moved[these, chosen] += noise.choice([-SHIFT, SHIFT]) * deviation[chosen]
            field[these], lasts[these] = chosen, stretch
    return Shifted(moved, field, lasts)


def hits(true: Sequence[str], named: Sequence[Sequence[str]], flagged: Bool) -> Hits:
    """`true` is the shifted field of each of some rows, `named` what its explanation names, best first."""
    places = np.array([names.index(one) if one in names else 9 for one, names in zip(true, named, strict=True)])
    shares = [_share(places[of] < most) for of in (flagged, np.ones(len(true), bool)) for most in (1, 3)]
    return Hits(len(true), _share(flagged), *shares)


def by_chance(fields: int) -> tuple[float, float]:
    """The hit rates at 1 and 3 of an explanation that names fields at random."""
    return 1 / fields, min(3 / fields, 1.0)


def largest_deviations(values: F64, key: I64, rows: I64, names: Sequence[str]) -> list[list[str]]:
    """The trivial explanation of some rows [k] of values [n,d]: the fields farthest from the key's mean first, in the
    key's deviations, both known from all of its rows."""
    found = []
    for row in rows.tolist():
        own = values[key == key[row]]
        away = np.abs(values[row] - np.nanmean(own, axis=0)) / np.maximum(np.nanstd(own, axis=0), 1e-300)
        found.append([names[column] for column in np.argsort(-np.nan_to_num(away), kind="stable")[:3]])
    return found


def _place(key: I64) -> I64:
    """[n] how many rows of its key come before each row."""
    order = np.argsort(key, kind="stable")
    starts = np.flatnonzero(np.diff(key[order], prepend=-1))
    place = np.empty(len(key), np.int64)
    place[order] = np.arange(len(key)) - np.repeat(starts, np.diff(np.append(starts, len(key))))
    return place


def _deviation(column: F64) -> float:
    known = column[np.isfinite(column)]
    return float(known.std()) if len(known) else 0.0


def _share(which: Bool) -> float:
    return float(which.mean()) if len(which) else np.nan
