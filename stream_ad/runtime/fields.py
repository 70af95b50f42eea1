"""Says once that a field has gone from the records, and when it is there again."""

from __future__ import annotations

import logging

import numpy as np

from stream_ad import metrics
from stream_ad.batch import I64, Bool, EventBatch, KeyedBatch
from stream_ad.config.features import FeatureSpec
from stream_ad.messages.alerts import iso

log = logging.getLogger(__name__)

LEAST = 100  # events without a field, before it has gone
MANY = 10  # times the longest absence so far: a field that is often missing has not gone


def keys(spec: FeatureSpec) -> list[str]:
    """The configuration's key of each field: the numeric ones, then the categorical ones."""
    return [f"features.numeric.{field}" for field in spec.numeric] + [
        f"features.categorical.{field}" for field in spec.categorical
    ]


def present(events: EventBatch, spec: FeatureSpec) -> Bool:
    """[n,d+c]: which event has a value of which field."""
    return np.concatenate([~np.isnan(events.values), events.codes[:, : len(spec.categorical)] != 0], axis=1)


class Fields:
    """Follows the absence of each field over all events that are judged, whatever their partition."""

    def __init__(self, spec: FeatureSpec) -> None:
        count = len(spec.numeric) + len(spec.categorical)
        self._spec, self._keys = spec, keys(spec)
        self.events = 0
        self.missing = np.zeros(count, np.int64)  # events without a value
        self._absent = np.zeros(count, np.int64)  # events since the latest one with a value
        self._longest = np.zeros(count, np.int64)  # absence between two events with a value
        self._latest_ms = np.full(count, -1, np.int64)  # event time of the latest one with a value; -1 = none yet
        self._gone = np.zeros(count, np.bool_)

    def never(self) -> list[str]:
        """The keys of fields of which no event has had a value."""
        return [key for key, count in zip(self._keys, self.missing, strict=True) if count == self.events > 0]

    def note(self, keyed: KeyedBatch, first: int = 0) -> None:
        """Counts the events from row `first` on."""
        n = len(keyed) - first
        if n <= 0:
            return
        there = present(keyed.events, self._spec)[first:]
        d = len(self._spec.numeric)
        there[:, :d] |= ~np.isnan(keyed.given[first:])  # a rule hides these from the folds
        there |= keyed.quiet[first:, None]  # of these the folds see nothing, so nothing can be said
        self.events += n
        for column, count in enumerate((n - there.sum(axis=0)).tolist()):
            if count:
                self.missing[column] += count
                metrics.MISSING.labels(self._keys[column]).inc(count)
            self._follow(column, np.flatnonzero(there[:, column]) if count else None, keyed, first)

    def _follow(self, column: int, rows: I64 | None, keyed: KeyedBatch, first: int) -> None:
        """`rows` with a value, from row `first` of the batch on; None = all."""
        ts_ms = keyed.events.ts_ms[first:]
        n = len(ts_ms)
        if rows is None or len(rows):
            head, last = (0, n - 1) if rows is None else (int(rows[0]), int(rows[-1]))
            absent = int(self._absent[column]) + head
            if self._gone[column]:
                self._gone[column] = False
                log.warning("%s: there again since %s, after %d events without", self._keys[column],
                            iso(int(ts_ms[head])), absent)  # fmt: skip
            inner = int(np.diff(rows).max(initial=1)) - 1 if rows is not None else 0
            self._longest[column] = max(self._longest[column], absent, inner)
            self._absent[column], self._latest_ms[column] = n - 1 - last, ts_ms[last]
        else:
            self._absent[column] += n
        if not self._gone[column] and self._absent[column] >= max(LEAST, MANY * self._longest[column]):
            self._gone[column] = True
            self._say(column)

    def _say(self, column: int) -> None:
        key, latest_ms = self._keys[column], int(self._latest_ms[column])
        if latest_ms < 0:
            log.warning("%s: in none of the first %d events; is the name right?", key, self._absent[column])
        else:
            log.warning(
                "%s: in none of the last %d events, since %s; has it been renamed?",
                key, self._absent[column], iso(latest_ms),
            )  # fmt: skip
