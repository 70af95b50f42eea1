"""An evaluation: judges a labelled stream as the pipeline would, and measures what it answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from stream_ad.batch import F64, I64, Bool, EventBatch, Message, Phase, Verdicts
from stream_ad.config import Config
from stream_ad.errors import InputError
from stream_ad.evaluation import baselines
from stream_ad.evaluation.figures import RESAMPLES, Figures, figures
from stream_ad.evaluation.labelled import Answers, Labelled, Stream
from stream_ad.evaluation.report import section
from stream_ad.io.bounded import read_decoded
from stream_ad.io.seeks import FromTheStart
from stream_ad.jobs.labels import Labels, Truth
from stream_ad.jobs.train import Collector, approved, learnt
from stream_ad.protocols import Source
from stream_ad.score.local import LocalModels
from stream_ad.state.assemble import Assembly, judge_decoded
from stream_ad.state.shard import Shard


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One detector, or one baseline, on one stream."""

    name: str
    figures: Figures
    stated_rate: float | None = None  # `threshold.false_alarm_rate`
    by_p_value: Figures | None = None  # ranked by what alerts publish
    incidents: int = 0
    incidents_without_label: int = 0
    budget: str | None = None  # `incidents.budget`
    most_in_period: int = 0  # incidents told in any one of its periods, of event time
    held: int = 0  # incidents that budgets held back
    rejects: int = 0
    late: int = 0  # events that were dropped because they came late
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    evaluations: list[Evaluation]
    section: str  # of a report, as HTML; "" unless it was asked for


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """What a pipeline answered to a stream."""

    stream: Stream
    incidents: I64  # rows of the stream at which incidents opened
    held: int  # incidents that budgets held back
    rejects: int
    late: int


def evaluated(
    config: Config,
    name: str,
    source: Callable[[], Source],
    labels: Labels,
    train: bool,
    report: bool = False,
    progress: Callable[[int], None] = lambda events: None,
) -> Outcome:
    """The configuration's detector, then the baselines. With `train`, its scorer learns from the records before the
    first one of their key that counts, and never from labels. Raises `StreamAdError`.
    """
    begun = time.monotonic()
    parts = Assembly.of(config)
    bundles = [trained(config, parts, source(), "evaluate", Truth(labels).earlier)] if train else []
    with LocalModels(config, bundles) as models:
        judgement = judged(parts, source(), labels, models, progress)
    detector = replace(measured(config, name, judgement), seconds=time.monotonic() - begun)
    beside = baselines.of(judgement.stream)
    evaluations = [detector, *(Evaluation(other, figures(rows)) for other, rows in beside.items())]
    return Outcome(evaluations, section(name, judgement.stream, beside) if report else "")


def measured(config: Config, name: str, judgement: Judgement, resamples: int = RESAMPLES) -> Evaluation:
    """The figures of what counts; `resamples` are those of the intervals. Raises `InputError` where nothing counts."""
    stream, incidents = judgement.stream, judgement.incidents
    answers = stream.answers
    if not answers.counted.any():
        raise InputError("no record counts: see --only and --warm-up")
    opened, budget = incidents[answers.counted[incidents]], config.incidents.budget
    return Evaluation(
        name=name,
        figures=figures(answers, resamples),
        stated_rate=config.threshold.false_alarm_rate,
        by_p_value=figures(Answers.of(answers, -stream.p_value, answers.flag), resamples=0),
        incidents=len(opened),
        incidents_without_label=int((~answers.label[opened]).sum()),
        budget=None if budget is None else str(budget),
        most_in_period=0 if budget is None else _most(answers.ts_ms[incidents], budget.period_ms),
        held=judgement.held,
        rejects=judgement.rejects,
        late=judgement.late,
    )


def trained(
    config: Config, parts: Assembly, source: Source, origin: str, wanted: Callable[[EventBatch], Bool] | None = None
) -> bytes:
    """A bundle that learnt from the events that are `wanted`, or from all. Errors name the `origin`."""
    collector = Collector(parts, config.train.max_rows, wanted)
    with closing(read_decoded(source, parts.codec)) as polls:
        for batches in polls:
            for decoded in batches:
                collector.add(decoded)
    return approved(config, learnt(config, collector, origin)).to_bytes()


def judged(
    parts: Assembly, source: Source, labels: Labels, models: LocalModels, progress: Callable[[int], None]
) -> Judgement:
    """What the last one of the models answers to the source, each record scored before anything learns from it."""
    truth, version, listener = Truth(labels), models.versions[-1], FromTheStart(source)
    shards: dict[int, Shard] = {}
    known: list[Labelled] = []
    columns: list[tuple[npt.NDArray[Any], ...]] = []
    opened: list[tuple[int, int]] = []
    rejects: list[Message] = []
    count = late = 0
    with closing(read_decoded(source, parts.codec, listener)) as polls:
        for batches in polls:
            for partition in {decoded.raw.partition for decoded in batches} - shards.keys():
                shards[partition] = parts.shard(partition, version, listener.partitions)
            answer = judge_decoded(parts, shards, batches, models)
            for verdicts in answer.verdicts:
                known.append(truth.of(verdicts.scores.features.windows.keyed.events))
                columns.append(_columns(verdicts))
                late += verdicts.scores.features.windows.keyed.dropped
                count += len(known[-1])
            opened += filter(None, map(_opened, answer.alerts))
            rejects += answer.rejects
            progress(count)
    if not count:
        raise InputError(f"no events to evaluate{_reason(rejects)}")
    if labels.field and not truth.labelled:
        raise InputError(f"--label: no record has a field {labels.field!r}")
    rows = Labelled.concat(known)
    partitions, offsets, score, flag, threshold, p_value, values = map(np.concatenate, zip(*columns, strict=True))
    places = (
        {at: row for row, at in enumerate(zip(partitions.tolist(), offsets.tolist(), strict=True))} if opened else {}
    )
    incidents = np.array([places[at] for at in opened if at in places], np.int64)
    names = [key.decode(errors="backslashreplace") for key in truth.keys]
    stream = Stream(Answers.of(rows, score, flag > 0), threshold, p_value, values, names)
    held = sum(shard.budget.held for shard in shards.values())
    return Judgement(stream, incidents, held, len(rejects), late)


def _most(ts_ms: I64, period_ms: int) -> int:
    """How many of these times lie within one period at most."""
    times = np.sort(ts_ms)
    first = np.searchsorted(times, times - period_ms, "right")
    return int((np.arange(len(times)) - first).max(initial=-1)) + 1


def _reason(rejects: Sequence[Message]) -> str:
    if not rejects:
        return ""
    first = (dict(rejects[0].headers)["reject_reason"] or b"").decode()
    return f"; {len(rejects)} records were rejected, the first for {first!r}: see record.*"


def _columns(verdicts: Verdicts) -> tuple[npt.NDArray[Any], ...]:
    """partition, offset, score, flag, threshold, p_value [n] and values [n,d] of every event; NaN where it has no
    verdict. A value outside its valid range is a flag too: it is told."""
    features = verdicts.scores.features
    keyed = features.windows.keyed
    events = keyed.events

    def spread(column: npt.NDArray[Any], absent: float) -> F64:
        values = np.full(len(events), absent)
        values[features.row] = column
        return values

    invalid = (keyed.outside >= 0) & ~keyed.quiet
    return (
        np.full(len(events), events.raw.partition),
        events.offset,
        spread(verdicts.scores.score, np.nan),
        np.maximum(spread(verdicts.flag, 0.0), invalid),
        spread(verdicts.threshold, np.nan),
        spread(verdicts.p_value, 1.0),
        keyed.given,
    )


def _opened(alert: Message) -> tuple[int, int] | None:
    """Partition and offset of an alert that opens an incident."""
    document = orjson.loads(alert.value or b"{}")
    if document["phase"] != Phase.opened.name:
        return None
    return document["position"]["partition"], document["position"]["offset"]
