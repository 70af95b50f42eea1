"""Numbers and durations as people write them: no locale, no clock, the same everywhere."""

from __future__ import annotations

import math

_MOST_DIGITS = 6
_UNITS = (("days", 86_400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3))
_FAR = 1000.0  # units; such a duration is written in a larger one
_NEAR = 1.1  # times another; such durations have the same unit


def number(value: float, decimals: int = 2, more: int = 0) -> str:
    """812.40, 35, 1,240,000, 0.0042, 3.1e+12: as many digits as a reader needs, and so many `more`."""
    if not math.isfinite(value):
        return "–"
    size = abs(value)
    if size >= 1e12 or 0 < size < 1e-4:
        return f"{value:.{3 + more}g}"
    if value == int(value) and not more:
        return f"{value + 0.0:,.0f}"
    if size >= 1e5:
        return f"{value:,.{more}f}"
    if size < 1:
        return f"{value:.{3 + more}g}"
    return f"{value:,.{decimals + more}f}"


def number_range(low: float, high: float, more: int = 0) -> str:
    """35–90: only as many digits as the width of the range makes meaningful, and `more`; one number where the ends
    cannot be told apart."""
    return ("–" if low >= 0 else " to ").join(dict.fromkeys(_ends(low, high, more)))


def beside(observed: float, low: float, high: float) -> tuple[str, str]:
    """A value and what was expected, which may be one number, with as many digits as tell how far apart they are."""
    away = _away(observed, low, high)
    for more in range(_MOST_DIGITS):
        ends = [_value(end) for end in _ends(low, high, more)]
        for own in range(more + 1):
            text = number(observed, more=own)
            if abs(_away(_value(text), *ends) - away) <= abs(away) / 4:
                return text, number_range(low, high, more)
    return text, number_range(low, high, more)


def beside_seconds(observed: float, low: float, high: float) -> tuple[str, str]:
    """As `beside`, for durations in seconds: both in the unit of the range, unless the value is far from it."""
    if low == high and not 1 / _NEAR < observed / (low or math.inf) < _NEAR:
        return duration(observed), duration(low)
    unit, size = next((unit for unit in _UNITS if (low if low > 0 else high) >= unit[1]), _UNITS[-1])
    text, ends = beside(observed / size, low / size, high / size)
    if abs(observed) >= _FAR * size:
        return duration(observed), f"{ends} {unit}"
    return f"{text} {unit}", f"{ends} {unit}"


def _away(value: float, low: float, high: float) -> float:
    """How far above or, negative, below the range."""
    return max(value - high, 0.0) + min(value - low, 0.0)


def _value(text: str) -> float:
    return float(text.replace(",", "")) if text != "–" else math.nan


def _ends(low: float, high: float, more: int) -> tuple[str, str]:
    width = high - low
    if not (math.isfinite(width) and width > 0):
        return number(low, more=more), number(low, more=more)
    digits = min(max(1 - math.floor(math.log10(width)), 0), _MOST_DIGITS) + more
    ends = [_rounded(end, digits) for end in (low, high)]
    if ends[0] == ends[1] and 0 < max(abs(low), abs(high)) < 1e-4:
        ends = [number(low, more=more), number(high, more=more)]
    while all("." in end and end[-1] in "0." for end in ends):
        ends = [end[:-1] for end in ends]
    return ends[0], ends[1]


def duration(seconds: float) -> str:
    """0.25 s, 40 s, 3.5 min, 2 h, 4 days"""
    if not math.isfinite(seconds):
        return "–"
    for unit, size in _UNITS[:3]:
        if abs(seconds) >= size:
            count = _plain(f"{seconds / size:.1f}")
            return f"{count} {'day' if unit == 'days' and count == '1' else unit}"
    if 0 < abs(seconds) < 0.0995:
        return f"{_plain(f'{seconds * 1000:.1f}')} ms"
    return f"{_plain(f'{seconds:.2f}' if abs(seconds) < 1 else f'{seconds:.1f}')} s"


def _rounded(value: float, digits: int) -> str:
    if abs(value) >= 1e12:
        return f"{value:.3g}"
    text = f"{value:,.{digits}f}"
    return text.removeprefix("-") if float(text.replace(",", "")) == 0 else text


def _plain(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text
