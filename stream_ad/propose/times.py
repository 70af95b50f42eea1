"""Whether a field holds times, from its values in a sample."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stream_ad.batch import I64, Strings
from stream_ad.codec.timestamps import of_iso, of_numbers
from stream_ad.propose.fields import FieldType, numbers_of

MOSTLY = 0.99
ENOUGH = 0.8  # share of records that have a field without which a record is rejected
_WHEN = re.compile(r"(time|date|stamp|epoch|(^|[._-])ts|[._-]at|when)([._-]?(s|ms|us|ns|utc|iso))?$", re.I)
_FIRST_WHEN = re.compile(r"^@?(event_?)?(time(stamp)?|ts|date_?time)$", re.I)
_UNITS = (("s", 1e8, 1e10), ("ms", 1e11, 1e13), ("us", 1e14, 1e16), ("ns", 1e17, 1e19))
_MODERN_MS = 946_684_800_000  # 2000-01-01
_RISING = 0.9  # share of steps that do not go back, in a log of events


@dataclass(frozen=True, slots=True)
class Time:
    """A field that can be read as the event time."""

    name: str
    form: str  # as in record.timestamp_format
    why: str
    real: bool  # a moment, not a mere count
    ts_ms: I64  # [n]  -1 = none
    text: bool = False  # a number that comes as text

    @property
    def rank(self) -> float:
        """The higher, the likelier this is the time of the event."""
        named = 2 * bool(_FIRST_WHEN.search(self.name)) + bool(_WHEN.search(self.name))
        return (4 * self.real + named) * float((self.ts_ms >= 0).mean())


def time_of(name: str, leaves: Sequence[Any], field_type: FieldType) -> Time | None:
    """The field as a time, if most of its leaves [n] hold one."""
    if field_type == "text":
        ts_ms = times_ms(leaves, "iso")
        held = float((ts_ms >= 0).mean())
        why = "ISO 8601" if held >= MOSTLY else f"ISO 8601, {100 * held:.0f} % of the records have it"
        return Time(name, "iso", why, True, ts_ms) if held >= ENOUGH else None
    if field_type not in ("number", "number_text"):
        return None
    leaves, text = numbers_of(leaves), field_type == "number_text"
    numbers = np.array([leaf for leaf in leaves if leaf is not None], np.float64)
    if len(numbers) < ENOUGH * len(leaves) or not len(numbers):
        return None
    named = bool(_WHEN.search(name))
    rising = len(numbers) > 2 and bool(np.mean(np.diff(numbers) >= 0) >= _RISING)
    for form, low, high in _UNITS:
        if low <= numbers.min() and numbers.max() < high:
            ts_ms = of_numbers(leaves, form)
            # seconds have too few digits to distinguish a time from any other number
            if named or (form != "s" and rising and ts_ms.max() >= _MODERN_MS):
                return Time(name, form, f"a number of {form} since 1970", True, ts_ms, text)
    if named and rising and numbers.min() >= 0 and numbers.max() < 1e8:
        return Time(name, "s", "a number that counts up", False, of_numbers(leaves, "s"), text)
    return None


def times_ms(leaves: Sequence[Any], form: str) -> I64:
    """[n] event times of a field's leaves in a `record.timestamp_format`; -1 = none."""
    if form == "iso":
        texts = [leaf.encode("utf-8", "replace") if isinstance(leaf, str) else b"" for leaf in leaves]
        return of_iso(Strings.of(texts))
    return of_numbers(numbers_of(leaves), form)
