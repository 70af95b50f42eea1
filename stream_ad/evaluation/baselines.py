"""What every detector has to beat: chance, an alarm at every row, and two lines of arithmetic on the bare values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stream_ad.batch import F64
from stream_ad.evaluation.labelled import Answers, Labelled, Stream

LONG_ROWS, SHORT_ROWS = 1000, 10


def of(stream: Stream) -> dict[str, Answers]:
    """What each of them answers, by name."""
    answers = stream.answers
    return {
        "random": random(answers),
        "always": always(answers),
        "differences": squared_difference(answers, stream.values),
        "variances": variance_ratio(answers, stream.values),
    }


def random(rows: Labelled, seed: int = 0) -> Answers:
    """Scores by chance. It flags as many rows as are labelled."""
    score = np.random.default_rng(seed).random(len(rows))
    share = rows.label[rows.counted].mean() if rows.counted.any() else 0.0
    return Answers.of(rows, score, score >= 1.0 - share)


def always(rows: Labelled) -> Answers:
    return Answers.of(rows, np.zeros(len(rows)), np.ones(len(rows), bool))


def squared_difference(rows: Labelled, values: F64) -> Answers:
    """The squared step from the key's value before, over its mean in the long run: the largest of all fields.

    `values` is [n,d], NaN = missing.
    """
    return _largest(rows, values, lambda series: _relative(np.diff(series, prepend=series[:1]) ** 2))


def variance_ratio(rows: Labelled, values: F64) -> Answers:
    """The variance of the key's last `SHORT_ROWS` values over its mean in the long run: the largest of all fields."""
    return _largest(rows, values, lambda series: _relative(_moving_variance(series)))


def _largest(rows: Labelled, values: F64, ratio: Callable[[F64], F64]) -> Answers:
    score = np.zeros(len(rows))
    order = np.argsort(rows.key, kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(rows.key[order])) + 1):
        for column in values[part].T:
            known = np.flatnonzero(np.isfinite(column))
            if len(known):
                score[part[known]] = np.maximum(score[part[known]], ratio(column[known]))
    return Answers.of(rows, score, np.zeros(len(rows), bool))


def _relative(series: F64) -> F64:
    """Over the mean of the `LONG_ROWS` values before, itself not included; 0 where that is 0 or there is none."""
    total = np.append(0.0, np.cumsum(series))
    row = np.arange(len(series))
    first = np.maximum(row - LONG_ROWS, 0)
    mean = (total[row] - total[first]) / np.maximum(row - first, 1)
    relative: F64 = np.divide(series, mean, out=np.zeros_like(series), where=mean > 0)
    return relative


def _moving_variance(series: F64) -> F64:
    centred = series - series[0]
    one, two = (np.append(0.0, np.cumsum(centred**power)) for power in (1, 2))
    row = np.arange(1, len(series) + 1)
    first = np.maximum(row - SHORT_ROWS, 0)
    count = row - first
    variance: F64 = np.maximum((two[row] - two[first]) / count - ((one[row] - one[first]) / count) ** 2, 0.0)
    return variance
