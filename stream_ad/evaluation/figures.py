"""The figures of one detector on one labelled stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stream_ad.batch import F64
from stream_ad.evaluation.labelled import Answers
from stream_ad.evaluation.nab import Series, nab_score
from stream_ad.evaluation.ranking import Ranking, spans, vus_pr

DAY_MS = 86_400_000
RESAMPLES = 100  # of the bootstrap
BLOCKS = 100  # that are drawn with replacement: neighbours are alike, so single rows are not independent
SERIES = 200  # at most: with more keys, no figure is taken of each by itself


@dataclass(frozen=True, slots=True)
class Figures:
    """NaN where a figure does not exist, such as precision where nothing is flagged."""

    rows: int
    labelled: int
    events: int  # runs of labelled rows of a key
    roc_auc: float
    roc_auc_interval: tuple[float, float]  # 95 %
    average_precision: float
    average_precision_interval: tuple[float, float]
    key_roc_auc: float  # the mean of the series that have labelled and other rows, each ranked by itself
    key_average_precision: float
    vus_pr: float  # the mean of the same series
    nab: float  # standard profile
    flagged: int
    precision: float
    recall: float
    f1: float
    event_recall: float  # the share of events with a flag
    delay_rows: float  # median over the events with a flag: rows of the key from their start to the first flag
    delay_s: float  # the same in event time
    false_alarm_rate: float  # the share of normal rows that are flagged
    false_alarms_per_day: float  # of event time, all keys together
    worst_key_share: float  # the share of all false alarms that one key has


def figures(answers: Answers, resamples: int = RESAMPLES, seed: int = 0) -> Figures:
    """`resamples` of the bootstrap; without any the intervals are NaN."""
    series = answers.series()
    counted = answers.take(np.flatnonzero(answers.counted))
    label, flag, n = counted.label, counted.flag, len(counted)
    ranking = Ranking.of(counted.score, label)
    roc_auc, average_precision = ranking.areas()
    drawn = [ranking.areas(weight) for weight in _resampled(n, resamples, np.random.default_rng(seed))]
    true, false = int((flag & label).sum()), int((flag & ~label).sum())
    precision, recall = _ratio(true, true + false), _ratio(true, int(label.sum()))
    events, seen, delay_rows, delay_s = _events(series)
    days = (int(counted.ts_ms.max()) - int(counted.ts_ms.min())) / DAY_MS if n else 0.0
    key_roc_auc, key_average_precision, volume = _alone(series)
    per_key = np.bincount(counted.key[flag & ~label]) if false else np.zeros(1)
    return Figures(
        rows=n,
        labelled=int(label.sum()),
        events=events,
        roc_auc=roc_auc,
        roc_auc_interval=_interval([roc for roc, _ in drawn]),
        average_precision=average_precision,
        average_precision_interval=_interval([average for _, average in drawn]),
        key_roc_auc=key_roc_auc,
        key_average_precision=key_average_precision,
        vus_pr=volume,
        nab=_nab(answers),
        flagged=true + false,
        precision=precision,
        recall=recall,
        f1=_ratio(2 * true, 2 * true + false + int(label.sum()) - true),
        event_recall=_ratio(seen, events),
        delay_rows=_median(delay_rows),
        delay_s=_median(delay_s),
        false_alarm_rate=_ratio(false, n - int(label.sum())),
        false_alarms_per_day=_ratio(false, days),
        worst_key_share=_ratio(float(per_key.max()), false),
    )


def _events(series: Sequence[Answers]) -> tuple[int, int, list[float], list[float]]:
    """How many events there are, how many have a flag, and their delays in rows and in seconds."""
    events, delay_rows, delay_s = 0, [], []
    for one in series:
        for first, last in spans(one.label):
            events += 1
            flags = np.flatnonzero(one.flag[first : last + 1])
            if len(flags):
                delay_rows.append(float(flags[0]))
                delay_s.append(float(one.ts_ms[first + flags[0]] - one.ts_ms[first]) / 1000)
    return events, len(delay_rows), delay_rows, delay_s


def _alone(series: Sequence[Answers]) -> tuple[float, float, float]:
    """ROC-AUC, average precision and VUS-PR, each the mean of the series in which it exists."""
    mixed = [one for one in series if one.label.any() and not one.label.all()]
    if not mixed or len(series) > SERIES:
        return np.nan, np.nan, np.nan
    areas = np.array([Ranking.of(one.score, one.label).areas() for one in mixed])
    volume = float(np.mean([vus_pr(one.score, one.label) for one in mixed]))
    return float(areas[:, 0].mean()), float(areas[:, 1].mean()), volume


def _nab(answers: Answers) -> float:
    order = np.argsort(answers.key, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(answers.key[order])) + 1)
    if len(parts) > SERIES:
        return np.nan
    return nab_score([Series(answers.score[part], answers.label[part], answers.counted[part]) for part in parts])


def _resampled(n: int, resamples: int, random: np.random.Generator) -> list[F64]:
    """How often each row is drawn, for each resample: blocks of neighbouring rows with replacement (Künsch 1989)."""
    blocks = min(BLOCKS, n)
    if blocks < 2:
        return []
    block = np.arange(n) * blocks // n
    return [
        np.bincount(random.integers(0, blocks, blocks), minlength=blocks)[block].astype(float) for _ in range(resamples)
    ]


def _interval(values: Sequence[float]) -> tuple[float, float]:
    known = np.array([value for value in values if np.isfinite(value)])
    return (float(np.quantile(known, 0.025)), float(np.quantile(known, 0.975))) if len(known) else (np.nan, np.nan)


def _ratio(part: float, of: float) -> float:
    return part / of if of else np.nan


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if values else np.nan
