"""A labelled stream as columns: what its records say, and what a pipeline answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np

from stream_ad.batch import F64, I64, Bool


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Rows in the order of the log. Rows that are not `counted` are judged, and are in no figure."""

    key: I64  # [n]  number of the key
    ts_ms: I64  # [n]
    label: Bool  # [n]
    counted: Bool  # [n]

    def __len__(self) -> int:
        return len(self.key)

    def take(self, rows: I64) -> Self:
        return replace(self, **{column.name: getattr(self, column.name)[rows] for column in fields(self)})

    @staticmethod
    def concat(parts: Sequence[Labelled]) -> Labelled:
        columns = (np.concatenate([getattr(part, column.name) for part in parts]) for column in fields(Labelled))
        return Labelled(*columns)


@dataclass(frozen=True, slots=True, eq=False)
class Answers(Labelled):
    """What a detector answered. A row that it does not judge has the lowest score of the stream, and no flag."""

    score: F64  # [n]
    flag: Bool  # [n]

    @classmethod
    def of(cls, rows: Labelled, score: F64, flag: Bool) -> Answers:
        judged = np.isfinite(score)
        lowest = score[judged].min() if judged.any() else 0.0
        return cls(rows.key, rows.ts_ms, rows.label, rows.counted, np.where(judged, score, lowest), flag & judged)

    def series(self) -> list[Answers]:
        """The counted rows of each key, in order."""
        rows = np.flatnonzero(self.counted)
        rows = rows[np.argsort(self.key[rows], kind="stable")]
        cuts = np.flatnonzero(np.diff(self.key[rows])) + 1
        return [self.take(part) for part in np.split(rows, cuts) if len(part)]


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """What a pipeline answered to a labelled stream, and what the stream held."""

    answers: Answers
    threshold: F64  # [n]  NaN where a row is not judged
    p_value: F64  # [n]
    values: F64  # [n,d]
    names: list[str]  # of the keys, by number
