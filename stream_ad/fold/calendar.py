"""Hides what happens in quiet times: maintenance windows and holidays.

An event in a quiet time of its key is not judged. To the folds that follow, all its fields are missing, so that they
learn nothing of it, and windows show nothing of it afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from stream_ad import config
from stream_ad.batch import I64, KeyedBatch
from stream_ad.config.rules import DAYS, Quiet, days_of, minutes_of, shifts_of
from stream_ad.fold.calendar_kernel import QuietTimes, mark
from stream_ad.kernel import read_only


class Calendar:
    """The quiet times of a pipeline. It has no state: what it hides follows from the event."""

    def __init__(self, section: config.Calendar) -> None:
        self.times = quiet_times(section.quiet)

    def hide(self, batch: KeyedBatch) -> KeyedBatch:
        """The batch with its quiet events marked, and their fields missing."""
        if not len(self.times.once) or not len(batch):
            return batch
        events, quiet = batch.events, np.zeros(len(batch), np.bool_)
        mark(self.times, events.ts_ms, read_only(events.key.data), events.key.start, quiet)
        if not quiet.any():
            return batch
        values, codes = events.values.copy(), events.codes.copy()
        values[quiet], codes[quiet] = np.nan, 0
        return replace(batch, events=replace(events, values=values, codes=codes), quiet=quiet)


def quiet_times(quiet: Sequence[Quiet]) -> QuietTimes:
    zones = [shifts_of(one.timezone) for one in quiet]
    dates = [sorted({day for text in one.dates for day in days_of(text)}) for one in quiet]
    patterns = [pattern.encode() for one in quiet for pattern in one.keys]
    return QuietTimes(
        once=_pairs((one.start or 0, one.end or 0) for one in quiet),
        minutes=_pairs(minutes_of(one.hours) for one in quiet),
        weekdays=np.array([sum(1 << DAYS.index(day) for day in one.days) for one in quiet], np.int64),
        dates=np.array([day for own in dates for day in own], np.int64),
        dates_of=_starts(map(len, dates)),
        shift_ms=np.array([at for own in zones for at, _ in own], np.int64),
        offset_ms=np.array([offset for own in zones for _, offset in own], np.int64),
        shifts_of=_starts(map(len, zones)),
        pattern=read_only(np.frombuffer(b"".join(patterns), np.uint8)),
        pattern_start=_starts(map(len, patterns)),
        patterns_of=_starts(len(one.keys) for one in quiet),
    )


def _pairs(values: Iterable[tuple[int, int]]) -> I64:
    return np.array(list(values), np.int64).reshape(-1, 2)


def _starts(sizes: Iterable[int]) -> I64:
    return np.cumsum([0, *sizes], dtype=np.int64)
