"""How well scores rank labelled rows, at every threshold: ROC-AUC, average precision and VUS-PR.

No figure here adjusts a row by its neighbours' flags ("point-adjusted"): a random score would look good.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stream_ad.batch import F64, I64, Bool

THRESHOLDS = 250  # of the volume under the surface, as in its reference implementation
BUFFER_ROWS = 100  # the widest buffer around a labelled span, half of it on each side


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Rows in falling order of score. Rows of one score are one step of every curve."""

    order: I64  # [n]
    last: I64  # [s]  the last place of each step, in `order`
    label: Bool  # [n]  in the order of the log

    @classmethod
    def of(cls, score: F64, label: Bool) -> Ranking:
        order = np.argsort(-score, kind="stable")
        ranked = score[order]
        return cls(order, np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)), label)

    def curve(self, weight: F64 | None = None) -> tuple[F64, F64]:
        """True and false positives [s] down to each step, each row counted `weight` [n] times."""
        weight = np.ones(len(self.label)) if weight is None else weight
        positive, all_rows = (weight * self.label)[self.order], weight[self.order]
        true = np.cumsum(positive)[self.last]
        return true, np.cumsum(all_rows)[self.last] - true

    def areas(self, weight: F64 | None = None) -> tuple[float, float]:
        """ROC-AUC and average precision; NaN where all rows have one label.

        ROC-AUC is the share of pairs of an anomalous and a normal row that the scores order rightly; ties count half.
        Average precision is the precision at each step, weighted by the recall that the step adds.
        """
        true, false = self.curve(weight)
        if not true[-1] or not false[-1]:
            return np.nan, np.nan
        precision = true / np.maximum(true + false, 1e-300)
        average = float(np.diff(true, prepend=0.0) @ precision / true[-1])
        return float(np.trapezoid(np.append(0.0, true), np.append(0.0, false)) / (true[-1] * false[-1])), average


def spans(label: Bool) -> I64:
    """[e,2] the first and the last row of each run of labelled rows."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], label, [False]]).astype(np.int8)))
    first_last: I64 = edges.reshape(-1, 2) - np.array([0, 1])
    return first_last


def vus_pr(score: F64, label: Bool, buffer_rows: int = BUFFER_ROWS) -> float:
    """Volume under the surface of precision, recall and buffer (Paparrizos et al., VLDB 2022), of one series.

    A buffer of `l` rows lies half before and half behind each span; its rows count by sqrt(1 - distance / l), so that
    a score which rises a little early or late is not taken for a false alarm. The volume is the mean area over the
    buffers 0 ... `buffer_rows`. NaN where no row is labelled.
    """
    found = spans(label)
    if not len(found):
        return np.nan
    n = len(score)
    falling = -np.sort(-score)
    cuts = falling[np.linspace(0, n - 1, THRESHOLDS).astype(int)]
    flagged = n - np.searchsorted(falling[::-1], cuts, side="left").astype(float)
    inside = _above(score[label], np.ones(int(label.sum())), cuts)
    areas = [_area(score, label, found, cuts, flagged, inside, rows) for rows in range(buffer_rows + 1)]
    return float(np.mean(areas))


def _area(score: F64, label: Bool, found: I64, cuts: F64, flagged: F64, inside: F64, buffer_rows: int) -> float:
    row, weight = _buffer(label, found, buffer_rows)
    around = _above(score[row], weight, cuts)
    true = inside + around
    positives = label.sum() + around / 2
    recall = np.minimum(true / positives, 1.0) * _seen(score, found, cuts, buffer_rows)
    return float(np.diff(recall, prepend=0.0) @ (true / flagged))


def _buffer(label: Bool, found: I64, buffer_rows: int) -> tuple[I64, F64]:
    """The rows around all spans, and the weight of each: the sum of what two spans give it, at most 1."""
    distance = np.arange(1, buffer_rows // 2 + 1)
    if not len(distance):
        return np.zeros(0, np.int64), np.zeros(0)
    row = np.concatenate([(found[:, :1] - distance).ravel(), (found[:, 1:] + distance).ravel()])
    weight = np.tile(np.sqrt(1.0 - distance / buffer_rows), 2 * len(found))
    kept = (row >= 0) & (row < len(label))
    row, weight = row[kept], weight[kept]
    outside = ~label[row]
    row, place = np.unique(row[outside], return_inverse=True)
    return row, np.minimum(np.bincount(place, weight[outside], len(row)), 1.0)


def _seen(score: F64, found: I64, cuts: F64, buffer_rows: int) -> F64:
    """The share of spans, with their buffers, in which a score reaches each cut. Buffers that touch make one span."""
    half = buffer_rows // 2
    first, last = np.maximum(found[:, 0] - half, 0), np.minimum(found[:, 1] + half, len(score) - 1)
    new = np.append(True, found[:-1, 1] + half >= found[1:, 0] - half) if len(found) > 1 else np.array([True])
    new[1:] = ~new[1:]
    starts = np.flatnonzero(new)
    ends = np.append(starts[1:] - 1, len(found) - 1)
    highest = np.array([score[first[a] : last[b] + 1].max() for a, b in zip(starts, ends, strict=True)])
    share: F64 = (highest[None, :] >= cuts[:, None]).mean(1)
    return share


def _above(score: F64, weight: F64, cuts: F64) -> F64:
    """The sum of the weights of the rows that reach each cut."""
    order = np.argsort(score)
    total = np.append(0.0, np.cumsum(weight[order]))
    above: F64 = total[-1] - total[np.searchsorted(score[order], cuts, side="left")]
    return above
