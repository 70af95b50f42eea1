"""The score of the Numenta Anomaly Benchmark (Lavin & Ahmad, ICMLA 2015), as its version 1.1 computes it.

One threshold holds for all series, and is the one at which the detector scores best. 100 is a detector that flags the
first row of every window and nothing else, 0 one that flags nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stream_ad.batch import F64, I64, Bool
from stream_ad.evaluation.ranking import spans


@dataclass(frozen=True, slots=True)
class Profile:
    """What a hit, a false alarm and a missed window cost."""

    hit: float
    false_alarm: float
    miss: float


STANDARD = Profile(1.0, 0.11, 1.0)
FEW_FALSE_ALARMS = Profile(1.0, 0.22, 1.0)
FEW_MISSES = Profile(1.0, 0.11, 2.0)


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One series. Rows of the probation are judged and not scored."""

    score: F64  # [n]
    window: Bool  # [n]  within a window of anomalies
    counted: Bool  # [n]  after the probation


def nab_score(series: Sequence[Series], profile: Profile = STANDARD) -> float:
    """0 to 100, or below 0 for a detector that is worse than none. NaN without a window."""
    scores, gains, groups = [], [], []
    windows = 0
    for one in series:
        gain, group = _gains(one, profile)
        kept = one.counted
        known = np.unique(group[kept & (group >= 0)])
        renamed = np.full(group.max(initial=-1) + 2, -1)
        renamed[known] = windows + np.arange(len(known))
        scores.append(one.score[kept])
        gains.append(gain[kept])
        groups.append(renamed[group[kept]])
        windows += len(known)
    if not windows:
        return np.nan
    best = _best(np.concatenate(scores), np.concatenate(gains), np.concatenate(groups), windows, profile)
    return 100.0 * (best + profile.miss * windows) / ((profile.hit + profile.miss) * windows)


def _gains(one: Series, profile: Profile) -> tuple[F64, I64]:
    """[n] what a flag at each row is worth, and the number of its window, -1 = none."""
    n = len(one.score)
    gain = np.full(n, -profile.false_alarm)
    group = np.full(n, -1)
    row = np.arange(n)
    for number, (first, last) in enumerate(spans(one.window)):
        width = last - first + 1
        inside = slice(first, last + 1)
        gain[inside] = profile.hit * _sigmoid(-(last - row[inside] + 1) / width) / _sigmoid(np.array(-1.0))
        group[inside] = number
        after = slice(last + 1, n)
        gain[after] = profile.false_alarm * _sigmoid((row[after] - last) / max(width - 1, 1))
    return gain, group


def _sigmoid(position: F64) -> F64:
    """From 0.987 at -1, the start of a window, by 0 at its end to -1 far behind it."""
    return np.where(position > 3.0, -1.0, 2.0 / (1.0 + np.exp(5.0 * np.minimum(position, 3.0))) - 1.0)


def _best(score: F64, gain: F64, group: I64, windows: int, profile: Profile) -> float:
    """The best sum over all thresholds: false alarms add up, and of a window only its best flag counts."""
    order = np.argsort(-score, kind="stable")
    score, gain, group = score[order], gain[order], group[order]
    step = np.where(group < 0, gain, 0.0)
    held = np.full(windows, -profile.miss)
    for place in np.flatnonzero(group >= 0):
        better = max(held[group[place]], gain[place])
        step[place] = better - held[group[place]]
        held[group[place]] = better
    total = np.cumsum(step)[np.append(score[1:] != score[:-1], True)] - profile.miss * windows
    return float(max(total.max(initial=-np.inf), -profile.miss * windows))
