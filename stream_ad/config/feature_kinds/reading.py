"""How an alert presents a feature: its phrase, and the way back from the feature to the value in the record.

Phrases are templates: `{field}` is the dotted path, `{category}` the path with the category where that is known,
`{parameter}` the feature's span or half-life in words.
"""

from __future__ import annotations

import math
import string
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Literal, NamedTuple, TypeAlias

Direction = Literal["above", "below", "novel", "known", "rare", "frequent", "missing", "present", "unusual"]


class Seen(NamedTuple):
    """The values from which a feature was computed."""

    x: float  # the feature
    value: float  # of the field; NaN = missing, or no number
    mean: float  # of the field, expected before the event
    deviation: float
    category: str | None  # None = missing, or its text is not kept any more


class Least(Enum):
    """The lowest value that can be."""

    NONE = "none"
    ZERO = "zero"
    FIELD = "zero, where the field itself is never negative"


class Unit(Enum):
    FIELD = "of the field"
    SECONDS = "seconds"
    NONE = "none"


Inverse: TypeAlias = Callable[[float, Seen], float]  # a feature, and where it was seen -> in the reading's unit


@dataclass(frozen=True, slots=True)
class Level:
    """The field's value, beside the values that were expected: "amount 812.40, expected 35–90, 9.1 σ above"."""

    inverse: Inverse
    phrase: str = "{field}"
    least: Least = Least.FIELD


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure made of several events: "mean of amount 81.20, expected 35–90, 4.1 σ above"."""

    phrase: str
    inverse: Inverse
    unit: Unit = Unit.FIELD
    least: Least = Least.FIELD


@dataclass(frozen=True, slots=True)
class Share:
    """The logarithm of a share: "merchant X9 in 1 % of the events of this key, expected 20–60 %"."""

    phrase: str  # with {share}, in percent


@dataclass(frozen=True, slots=True)
class Rise:
    """By how many deviations a category is more frequent: "service ecr_i more often of late, 9.1 σ above"."""

    phrase: str


@dataclass(frozen=True, slots=True)
class Indicator:
    """1 or 0, with a phrase for each."""

    phrase: str
    otherwise: str
    directions: tuple[Direction, Direction]
    inverse: Callable[[bool, Seen], float | str | None]


@dataclass(frozen=True, slots=True)
class Moment:
    """An event time: "12:00 UTC is an unusual time of day"."""

    phrase: str  # with {moment}
    words: Callable[[int], str]  # event time in ms -> the moment in words


Reading: TypeAlias = Level | Figure | Share | Rise | Indicator | Moment
OWN: dict[type[Reading], set[str]] = {Share: {"share"}, Moment: {"moment"}}  # placeholders that a phrase must have


def phrases(reading: Reading) -> tuple[str, ...]:
    return (reading.phrase, reading.otherwise) if isinstance(reading, Indicator) else (reading.phrase,)


def placeholders(phrase: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(phrase) if name is not None}


def as_it_is(x: float, seen: Seen) -> float:
    return x


def signed_expm1(x: float, seen: Seen) -> float:
    return math.copysign(expm1(abs(x)), x)


def positive_expm1(x: float, seen: Seen) -> float:
    return expm1(max(x, 0.0))


def expm1(x: float) -> float:
    return math.expm1(min(x, 700.0))
