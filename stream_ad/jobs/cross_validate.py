"""Time-ordered cross-validation: a model learns from the past and is judged on what follows, several times.

The stream is cut by event time into one stretch more than there are folds, of as many records each. In fold k the
scorer learns from the first k stretches, and the pipeline is judged on the next one (forward chaining over an expanding
window: Bergmeir & Benítez 2012, "On the use of cross-validation for time series predictor evaluation"; as
`TimeSeriesSplit` of scikit-learn). It has folded the k stretches before, as it would have by then in production. What
comes after the judged stretch is not even read as events.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, fields, replace

import numpy as np

from stream_ad.batch import I64, EventBatch, RawBatch, RejectBatch
from stream_ad.config import Config
from stream_ad.errors import InputError
from stream_ad.evaluation import baselines
from stream_ad.evaluation.figures import Figures, figures
from stream_ad.evaluation.labelled import Answers
from stream_ad.io.bounded import read_decoded
from stream_ad.jobs.evaluate import Evaluation, Judgement, judged, measured, trained
from stream_ad.jobs.labels import Labels
from stream_ad.protocols import Codec, Source
from stream_ad.score.local import LocalModels
from stream_ad.state.assemble import Assembly

UNTRAINED = "untrained"  # the built-in scorer with the same configuration


@dataclass(frozen=True, slots=True)
class Fold:
    """One stretch that is judged. Everything before `first_ms` was learnt, nothing after `last_ms` was seen."""

    first_ms: int
    last_ms: int
    learnt: int  # records before the stretch
    evaluations: list[Evaluation]  # the trained detector, the untrained one, then the baselines


@dataclass(frozen=True, slots=True)
class Validation:
    """One configuration in every fold."""

    name: str
    rejects: int  # records of the whole stream that could not be read
    folds: list[Fold]

    def rows(self) -> list[str]:
        """The detector, and what stands beside it."""
        return [evaluation.name for evaluation in self.folds[0].evaluations]

    def figures(self, at: int) -> list[Figures]:
        """Those of one row in each fold."""
        return [fold.evaluations[at].figures for fold in self.folds]

    def summary(self, at: int) -> dict[str, tuple[float, float]]:
        """The mean of each figure of a row over the folds in which it exists, and its standard deviation.

        Folds share what they learn from, so the deviation is no standard error of the mean; no unbiased one exists
        (Bengio & Grandvalet 2004).
        """
        columns = [field.name for field in fields(Figures) if not field.name.endswith("_interval")]
        known = {name: [float(getattr(one, name)) for one in self.figures(at)] for name in columns}
        return {name: mean_and_deviation(values) for name, values in known.items()}


class Until:
    """A codec that makes no event of a record whose event time is `end_ms` or later, and tells of no reject: of what
    cannot be read nobody knows the time."""

    def __init__(self, codec: Codec, end_ms: int) -> None:
        self._codec, self._end_ms = codec, end_ms

    def decode(self, raw: RawBatch) -> tuple[EventBatch, RejectBatch]:
        events, _ = self._codec.decode(raw)
        before = np.flatnonzero(events.ts_ms < self._end_ms)
        return events if len(before) == len(events) else events.take(before), RejectBatch(raw, [], [])


def cross_validated(
    config: Config,
    name: str,
    source: Callable[[], Source],
    labels: Labels,
    folds: int,
    progress: Callable[[str], None] = lambda status: None,
) -> Validation:
    """`source` is read anew for every pass, and `folds` is 2 or more. `labels.since_ms` is of no account.

    Raises `StreamAdError`.
    """
    parts = Assembly.of(config)
    times, rejects = _times(parts.codec, source(), progress)
    cuts = cuts_of(times, folds)
    learnt = np.searchsorted(times, cuts)
    del times
    made = []
    for number in range(1, folds + 1):
        first, end = int(cuts[number - 1]), int(cuts[number])
        here = f"fold {number} of {folds}"
        begun = time.monotonic()
        progress(f"{here}: learning")
        bundle = trained(config, _until(parts, first), source(), f"evaluate, {here}")
        counted = replace(labels, since_ms=first)
        evaluations = _judged(config, name, _until(parts, end), source, counted, bundle, here, progress)
        evaluations[0] = replace(evaluations[0], seconds=time.monotonic() - begun)
        made.append(Fold(first, end - 1, int(learnt[number - 1]), evaluations))
    return Validation(name, rejects, made)


def cuts_of(times: I64, folds: int) -> I64:
    """Ascending event times [n] -> the times [folds+1] at which the judged stretches begin, and the end of the last.

    Stretches have as many records each, but records of one millisecond are never parted. Raises `InputError` where a
    stretch would have none.
    """
    if not len(times):
        raise InputError("--folds: no events to evaluate; see `stream-ad check`")
    cuts = times[np.arange(1, folds + 1) * len(times) // (folds + 1)]
    cuts = np.append(cuts, times[-1] + 1)
    if np.any(np.diff(np.append(times[0], cuts)) <= 0):
        distinct = len(np.unique(times))
        raise InputError(
            f"--folds {folds}: {len(times):,} events at {distinct:,} different times do not make {folds + 1} stretches"
        )
    return cuts


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Of those that exist; NaN where there is none, or for a deviation less than two."""
    known = np.array([value for value in values if np.isfinite(value)])
    mean = float(known.mean()) if len(known) else np.nan
    return mean, float(known.std(ddof=1)) if len(known) > 1 else np.nan


def _times(codec: Codec, source: Source, progress: Callable[[str], None]) -> tuple[I64, int]:
    """The event times of all records, ascending, and how many records are rejected."""
    found: list[I64] = []
    rejects = count = 0
    with closing(read_decoded(source, codec)) as polls:
        for batches in polls:
            found += [decoded.events.ts_ms.copy() for decoded in batches]
            rejects += sum(len(decoded.rejects) for decoded in batches)
            count = sum(map(len, found))
            progress(f"reading: {count:,} events")
    return np.sort(np.concatenate(found)) if found else np.zeros(0, np.int64), rejects


def _until(parts: Assembly, end_ms: int) -> Assembly:
    return replace(parts, codec=Until(parts.codec, end_ms))


def _judged(
    config: Config,
    name: str,
    parts: Assembly,
    source: Callable[[], Source],
    labels: Labels,
    bundle: bytes,
    here: str,
    progress: Callable[[str], None],
) -> list[Evaluation]:
    """The trained detector, the untrained one, and the baselines."""

    def judge(one: str, bundles: Sequence[bytes]) -> Judgement:
        with LocalModels(config, bundles) as models:
            return judged(parts, source(), labels, models, lambda count: progress(f"{here}: {one}, {count:,} events"))

    trained_one = judge(name, [bundle])
    beside: dict[str, Answers] = baselines.of(trained_one.stream)
    evaluations = [measured(config, name, trained_one, resamples=0)]
    evaluations += [Evaluation(other, figures(rows, resamples=0)) for other, rows in beside.items()]
    del trained_one, beside
    evaluations.insert(1, measured(config, UNTRAINED, judge(UNTRAINED, []), resamples=0))
    return evaluations
