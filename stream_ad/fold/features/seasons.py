"""How much more than at other hours is expected of a key's values at an hour of the day, or of the week.

A profile has the mean value of each hour, and how many times that hour was seen: a value counts for the part of an hour
that passed since the key's event before it. An hour's level is its mean less that of all hours. After few visits the
profile of all keys has a part, (n·level + PRIOR·deviation·level of all keys) / (n + PRIOR), which is in deviations of a
key and drawn towards 0 alike. Between the middles of two hours the level is interpolated. A profile forgets as if it
had seen `MOST` visits at most, and learns a value beyond the gate as one at the gate (Huber & Ronchetti 2009).

What a profile foretells counts as far as it has come true: by the slope of the values on what was foretold of them,
between 0 and 1. Where values have no season the profile is noise, and its slope is 0.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from stream_ad.batch import F64, I64
from stream_ad.fold.features.moments import DEVIATION, GATE, KEY_WARM, KNOWN, MEAN, OPEN_SHARE, OUTSIDE, OWN_COUNT
from stream_ad.fold.features.recipe import EVENTS, LATEST_MS
from stream_ad.kernel import inlined, kernel

HOUR_MS, TO_MONDAY_MS = 3_600_000, 3 * 86_400_000  # 1970 began on a Thursday
DAY_HOURS, WEEK_HOURS = 24, 168
PRIOR, MOST, MOST_OF_POOL = 3.0, 30.0, 3000.0  # visits
PRIOR_HOURS = 24.0  # of a key, before its own slope counts as much as that of all keys
LEAST_PASSED = 1.0 / 3600.0  # hours
LEVEL, VISITS = range(2)  # columns of an hour
SUMS, OVERALL, MORE = -2, -1, 2  # rows behind the hours, and how many
TRUE, FORETOLD = range(2)  # columns of the sums over hours: foretold times true, and foretold squared


class Seasons(NamedTuple):
    """The profiles of z fields, each for the hours of the day or of the week."""

    profile: F64  # [capacity,z,hours,2]
    of_all: F64  # [z,hours,2]
    part: I64  # [z]  which expectation is shifted
    column: I64  # [z]  of the field, which is the expectation of its value at any hour
    hours: I64  # [z]


@inlined
def hour_of(ts_ms: int, hours: int) -> float:
    """Since Monday, or midnight; UTC."""
    return ((ts_ms + TO_MONDAY_MS) % (hours * HOUR_MS)) / HOUR_MS


@inlined
def usual(profile: F64, of_all: F64, s: int, k: int, hour: int, deviation: float) -> float:
    visits, visits_of_all = profile[s, k, hour, VISITS], of_all[k, hour, VISITS]
    level = deviation * of_all[k, hour, LEVEL] * visits_of_all / (visits_of_all + PRIOR)
    own = profile[s, k, hour, LEVEL] - profile[s, k, OVERALL, LEVEL]
    return float((visits * own + PRIOR * level) / (visits + PRIOR))


@inlined
def foretold(profile: F64, of_all: F64, s: int, k: int, hours: int, deviation: float, now_ms: int) -> float:
    middle = hour_of(now_ms, hours) - 0.5
    before = math.floor(middle)
    one = usual(profile, of_all, s, k, int(before) % hours, deviation)
    other = usual(profile, of_all, s, k, (int(before) + 1) % hours, deviation)
    return one + (middle - before) * (other - one)


@inlined
def slope(profile: F64, of_all: F64, s: int, k: int) -> float:
    usually = of_all[k, SUMS, TRUE] / (of_all[k, SUMS, FORETOLD] + PRIOR_HOURS)
    true, told = profile[s, k, SUMS, TRUE], profile[s, k, SUMS, FORETOLD]
    return float(min(max((true + PRIOR_HOURS * usually) / (told + PRIOR_HOURS), 0.0), 1.0))


@inlined
def known(fields: F64, expectation: F64, s: int, c: int) -> float:
    """The key's deviation; 0 while it is rather that of others."""
    return expectation[c, DEVIATION] if fields[s, c, OWN_COUNT] >= KNOWN else 0.0


@kernel
def expect_season(shift: F64, seasons: Seasons, fields: F64, expectation: F64, s: int, now_ms: int) -> None:
    """Fills in [q] by how much more than at other hours is expected at this one, in units of the field."""
    profile, of_all, part, column, hours = seasons
    for k in range(len(part)):
        deviation = known(fields, expectation, s, column[k])
        level = foretold(profile, of_all, s, k, hours[k], deviation, now_ms)
        shift[part[k]] = slope(profile, of_all, s, k) * level


@kernel
def learn_season(
    seasons: Seasons, fields: F64, expectation: F64, shift: F64, figures: F64, seen: I64, s: int, now_ms: int
) -> None:
    profile, of_all, part, column, hours = seasons
    every = of_all.reshape((1, *of_all.shape))
    before_ms = seen[s, LATEST_MS] if seen[s, EVENTS] > 0 else now_ms
    passed = min(max((now_ms - before_ms) / HOUR_MS, LEAST_PASSED), 1.0)
    for k in range(len(part)):
        q, value = part[k], figures[part[k]]
        if value != value:
            continue
        if fields[s, q, OWN_COUNT] >= KEY_WARM and fields[s, q, OUTSIDE] < OPEN_SHARE:
            reach = GATE * expectation[q, DEVIATION]
            value = min(max(value, expectation[q, MEAN] - reach), expectation[q, MEAN] + reach)
        value += shift[q]
        deviation = known(fields, expectation, s, column[k])
        told = foretold(profile, of_all, s, k, hours[k], deviation, now_ms)
        hour = int(hour_of(now_ms, hours[k]))
        if hour != int(hour_of(before_ms, hours[k])):
            profile[s, k, OVERALL, LEVEL] = overall(profile, s, k, hours[k])
        learn_hour(profile, s, k, hour, value, passed, MOST)
        if deviation > 0.0:
            true, told = (value - profile[s, k, OVERALL, LEVEL]) / deviation, told / deviation
            learn_hour(every, 0, k, hour, true, passed, MOST_OF_POOL)
            learn_slope(profile, s, k, told, true, passed, MOST * hours[k])
            learn_slope(every, 0, k, told, true, passed, MOST_OF_POOL * hours[k])


@inlined
def learn_hour(profile: F64, s: int, k: int, hour: int, level: float, passed: float, most: float) -> None:
    visits = min(profile[s, k, hour, VISITS] + passed, most)
    profile[s, k, hour, LEVEL] += passed / visits * (level - profile[s, k, hour, LEVEL])
    profile[s, k, hour, VISITS] = visits


@inlined
def learn_slope(profile: F64, s: int, k: int, told: float, true: float, passed: float, most: float) -> None:
    keep = 1.0 - passed / most
    profile[s, k, SUMS, TRUE] = keep * profile[s, k, SUMS, TRUE] + passed * told * true
    profile[s, k, SUMS, FORETOLD] = keep * profile[s, k, SUMS, FORETOLD] + passed * told * told


@inlined
def overall(profile: F64, s: int, k: int, hours: int) -> float:
    """The mean of the hours that were seen."""
    total, visits = 0.0, 0.0
    for hour in range(hours):
        total += profile[s, k, hour, VISITS] * profile[s, k, hour, LEVEL]
        visits += profile[s, k, hour, VISITS]
    return total / visits if visits > 0.0 else 0.0
