"""Whether a field holds times, from its values in a sample."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stream_ad.batch import I64, Strings
from stream_ad.codec.timestamps import of_iso, of_numbers
from stream_ad.propose.fields import FieldType

MOSTLY = 0.99
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

    @property
    def rank(self) -> int:
        """The higher, the likelier this is the time of the event."""
        return 4 * self.real + 2 * bool(_FIRST_WHEN.search(self.name)) + bool(_WHEN.search(self.name))


def time_of(name: str, leaves: Sequence[Any], field_type: FieldType) -> Time | None:
    """The field as a time, if nearly all of its leaves [n] hold one."""
    if field_type == "text":
        ts_ms = of_iso(Strings.of([(leaf or "").encode() if isinstance(leaf, str) else b"" for leaf in leaves]))
        return Time(name, "iso", "ISO 8601", True, ts_ms) if (ts_ms >= 0).mean() >= MOSTLY else None
    if field_type != "number":
        return None
    numbers = np.array([leaf for leaf in leaves if leaf is not None], np.float64)
    if len(numbers) < MOSTLY * len(leaves):
        return None
    named = bool(_WHEN.search(name))
    rising = len(numbers) > 2 and bool(np.mean(np.diff(numbers) >= 0) >= _RISING)
    for form, low, high in _UNITS:
        if low <= numbers.min() and numbers.max() < high:
            ts_ms = of_numbers(leaves, form)
            # seconds have too few digits to distinguish a time from any other number
            if named or (form != "s" and rising and ts_ms.max() >= _MODERN_MS):
                return Time(name, form, f"a number of {form} since 1970", True, ts_ms)
    if named and rising and numbers.min() >= 0 and numbers.max() < 1e8:
        return Time(name, "s", "a number that counts up", False, of_numbers(leaves, "s"))
    return None
