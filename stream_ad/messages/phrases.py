"""Numbers and durations as people write them: no locale, no clock, the same everywhere."""

from __future__ import annotations

import math


def number(value: float, decimals: int = 2) -> str:
    """812.40, 35, 1,240,000, 0.0042, 3.1e+12: as many digits as a reader needs."""
    if not math.isfinite(value):
        return "–"
    size = abs(value)
    if size >= 1e12 or 0 < size < 1e-4:
        return f"{value:.3g}"
    if value == int(value):
        return f"{value + 0.0:,.0f}"
    if size >= 1e5:
        return f"{value:,.0f}"
    if size < 1:
        return f"{value:.3g}"
    return f"{value:,.{decimals}f}"


def number_range(low: float, high: float) -> str:
    """35–90: only as many digits as the width of the range makes meaningful."""
    width = high - low
    if not (math.isfinite(width) and width > 0):
        return number(low)
    digits = min(max(1 - math.floor(math.log10(width)), 0), 6)
    ends = [_rounded(end, digits) for end in (low, high)]
    if ends[0] == ends[1]:
        ends = [number(low), number(high)]
    while digits > 0 and all(end.endswith("0") for end in ends):
        digits -= 1
        ends = [end[:-1].removesuffix(".") for end in ends]
    return ("–" if low >= 0 else " to ").join(ends)


def duration(seconds: float) -> str:
    """0.25 s, 40 s, 3.5 min, 2 h, 4 days"""
    if not math.isfinite(seconds):
        return "–"
    for unit, size in (("days", 86_400.0), ("h", 3600.0), ("min", 60.0)):
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
