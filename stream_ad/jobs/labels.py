"""What the records of a labelled stream say of themselves: which are anomalous, and which count."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import orjson

from stream_ad.batch import Bool, EventBatch, RawBatch
from stream_ad.errors import InputError
from stream_ad.evaluation.labelled import Labelled
from stream_ad.paths import field

TRUE = {"1", "1.0", "true", "yes"}


@dataclass(frozen=True, slots=True)
class Labels:
    """Which records are anomalous, and which count.

    A record is anomalous if `field`, a dotted path, holds 1 or true; without a field ("") none is. A record counts
    unless it is among the first `warm_up` ones of its key, or `only`, a field and a value, is given and the record has
    another value, or its event time is before `since_ms`.
    """

    field: str = "label"
    only: tuple[str, str] | None = None
    warm_up: int = 0
    since_ms: int = 0


class Truth:
    """Reads the labels of records, in the order of the log."""

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self.keys: dict[bytes, int] = {}  # name -> number
        self._seen: list[int] = []  # [keys]
        self._counting: list[bool] = []  # [keys]
        self.labelled = 0  # records that have the field

    def of(self, events: EventBatch) -> Labelled:
        n = len(events)
        label, counted, key = np.zeros(n, bool), np.ones(n, bool), np.zeros(n, np.int64)
        names, times = events.key.tolist(), events.ts_ms.tolist()
        for i, row in enumerate(events.row.tolist()):
            document = _document(events.raw, row)
            held = field(document, self._labels.field) if self._labels.field else None
            label[i] = str(held).lower() in TRUE
            self.labelled += held is not None
            key[i] = number = self.keys.setdefault(names[i], len(self.keys))
            if number == len(self._seen):
                self._seen.append(0)
                self._counting.append(False)
            self._seen[number] += 1
            counted[i] = (
                self._seen[number] > self._labels.warm_up
                and times[i] >= self._labels.since_ms
                and self._is_among(document)
            )
            self._counting[number] |= bool(counted[i])
        return Labelled(key, events.ts_ms, label, counted)

    def earlier(self, events: EventBatch) -> Bool:
        """[n] which events come before the first one of their key that counts."""
        before = np.array(self._counting, bool)
        rows = self.of(events)
        earlier = np.ones(len(rows), bool)
        known = rows.key < len(before)
        earlier[known] = ~before[rows.key[known]]
        first = np.flatnonzero(rows.counted)
        began = np.full(len(self._counting), len(rows))
        np.minimum.at(began, rows.key[first], first)
        return earlier & (np.arange(len(rows)) < began[rows.key])

    def _is_among(self, document: object) -> bool:
        if self._labels.only is None:
            return True
        path, value = self._labels.only
        return str(field(document, path)) == value


def _document(raw: RawBatch, row: int) -> object:
    try:
        return orjson.loads(raw.value[row] or b"null")
    except orjson.JSONDecodeError:
        raise InputError(
            f"--label: labels are read from JSON, which the record at offset {raw.offset[row]} is not"
        ) from None
