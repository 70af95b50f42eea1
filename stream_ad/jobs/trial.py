"""A model proves itself: the latest events of its log, judged by it and by the version that judges now.

The trial sees no labels. It counts flags and incidents at the stated rate of false alarms, and how many spikes are
found that it puts into copies of rows, one feature at a time. Each version begins with empty thresholds, which learn
from the first half of the events; the second half counts.

Chance flags rows one by one, and what happens to a key flags many in a row. So the stated rate bounds the incidents;
the flags have only to be rare.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stream_ad.batch import F32, I64, Bool, FeatureBatch, Phase, Scores, Verdicts
from stream_ad.config import Config
from stream_ad.config.feature_kinds.row import Role
from stream_ad.config.features import FeatureSpec
from stream_ad.errors import ModelError, printable
from stream_ad.messages.alerts import text_of
from stream_ad.messages.explain import contributors
from stream_ad.messages.redact import Redaction
from stream_ad.protocols import BUILT_IN
from stream_ad.score.local import LocalModels
from stream_ad.state.assemble import Assembly

SPIKES = 400  # at most, one for each row of the second half
DEVIATIONS = 10.0  # of a spike
EXAMPLES = 3
MOST_SHARE = 0.1  # of the rows that a new model may flag


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one version did with the rows that count."""

    version: str
    flags: int
    incidents: int  # that opened
    found: int  # spikes
    examples: list[str]  # flagged rows in words, the most unusual first


@dataclass(frozen=True, slots=True)
class Trial:
    rows: int  # that count
    spikes: int
    stated_rate: float  # of false alarms
    candidate: Outcome
    judge: Outcome

    @property
    def metrics(self) -> dict[str, float]:
        """As the manifest of a bundle keeps them."""
        return {
            "trial_rows": float(self.rows),
            "trial_spikes": float(self.spikes),
            "trial_flags": float(self.candidate.flags),
            "trial_incidents": float(self.candidate.incidents),
            "trial_found": float(self.candidate.found),
            "trial_judge_flags": float(self.judge.flags),
            "trial_judge_incidents": float(self.judge.incidents),
            "trial_judge_found": float(self.judge.found),
        }

    @property
    def words(self) -> str:
        lines = [f"trial on the latest {self.rows:,} rows, {self.stated_rate * self.rows:.1f} false flags stated:"]
        for name, one in (("the new model", self.candidate), (self.judge.version, self.judge)):
            lines.append(
                f"  {name}: {one.flags:,} flags in {one.incidents:,} incidents, "
                f"{one.found} of {self.spikes} spikes found"
            )
            lines += [f"    {example}" for example in one.examples]
        return "\n".join(lines)


def objections(metrics: Mapping[str, float], config: Config) -> list[str]:
    """Why a model with these metrics should not judge; none where it has no trial behind it."""
    if "trial_rows" not in metrics:
        return []
    rows, spikes, flags = (metrics[f"trial_{name}"] for name in ("rows", "spikes", "flags"))
    found, judge_found, judge_flags = (metrics[f"trial_{name}"] for name in ("found", "judge_found", "judge_flags"))
    incidents, judge_incidents, opened = flags, judge_flags, f"flags {flags:.0f} of"
    if "trial_incidents" in metrics:  # bundles of earlier versions counted none
        incidents, judge_incidents = metrics["trial_incidents"], metrics["trial_judge_incidents"]
        opened = f"opens {incidents:.0f} incidents in"
    stated = config.threshold.false_alarm_rate * rows
    least = config.models.least_found * judge_found
    # a few incidents are chance, and what the version that judges flags may be true
    most = max(config.models.most_flags * stated + 10.0, 2.0 * judge_incidents)
    reasons = []
    if found < least:
        reasons.append(
            f"it finds {found:.0f} of {spikes:.0f} spikes, and the version that judges finds {judge_found:.0f} "
            f"(models.least_found = {config.models.least_found:g} asks for {least:.0f})"
        )
    if incidents > most:
        reasons.append(
            f"it {opened} {rows:.0f} rows where {stated:.1f} false flags are stated "
            f"(models.most_flags = {config.models.most_flags:g} accepts {most:.0f})"
        )
    if flags > max(most, MOST_SHARE * rows, 2.0 * judge_flags):
        reasons.append(
            f"it flags {flags:.0f} of {rows:.0f} rows, and the version that judges {judge_flags:.0f}: "
            "what is so frequent is no anomaly"
        )
    return reasons


def try_out(
    config: Config,
    parts: Assembly,
    partitions: Sequence[Sequence[FeatureBatch]],
    candidate: bytes,
    judge: bytes | None,
) -> Trial | None:
    """`partitions` hold the latest batches, each in the order of its log. None without rows that count.

    `judge` None = the built-in scorer; so it is where that bundle does not fit.
    """
    counted = [_counted(batches) for batches in partitions]
    if not any(part.any() for part in counted):
        return None
    try:
        models = LocalModels(config, [candidate] if judge is None else [candidate, judge])
    except ModelError:
        if judge is None:
            raise
        models = LocalModels(config, [candidate])
    redaction = Redaction(config.sink.redact, config.record.key)
    with models:
        rows = _chosen(counted, config.train.seed)
        spiked = [
            _spiked(batches, at, parts.spec, config.train.seed) for batches, at in zip(partitions, rows, strict=True)
        ]
        versions = models.versions
        outcomes = [
            _judged(parts, models, version, partitions, counted, rows, spiked, redaction)
            for version in (versions[1], versions[-1] if len(versions) > 2 else BUILT_IN)
        ]
    return Trial(
        rows=sum(int(part.sum()) for part in counted),
        spikes=sum(map(len, rows)),
        stated_rate=config.threshold.false_alarm_rate,
        candidate=outcomes[0],
        judge=outcomes[1],
    )


def _counted(batches: Sequence[FeatureBatch]) -> Bool:
    """[m] over the rows of a partition's batches: whether a row lies in the second half."""
    rows = sum(map(len, batches))
    return np.arange(rows) >= rows // 2


def _chosen(counted: Sequence[Bool], seed: int) -> list[I64]:
    """Rows of each partition that get a spike, evenly from all that count."""
    total = sum(int(part.sum()) for part in counted)
    random = np.random.Generator(np.random.PCG64(seed))
    chosen = np.sort(random.choice(total, min(SPIKES, total), replace=False))
    found, first = [], 0
    for part in counted:
        rows = np.flatnonzero(part)
        found.append(rows[chosen[(chosen >= first) & (chosen < first + len(rows))] - first])
        first += len(rows)
    return found


def _spiked(batches: Sequence[FeatureBatch], rows: I64, spec: FeatureSpec, seed: int) -> F32:
    """Copies of the windows `rows` [k,w,f], each with one feature of its newest lag far out."""
    roles = [spec.kind_of(feature).role for feature in spec.features]
    fit = np.array([role in (Role.STANDARD, Role.MEASURE) for role in roles])
    columns = np.flatnonzero(fit if fit.any() else np.ones(len(roles), np.bool_))
    newest = np.concatenate([batch.x[:, -1] for batch in batches])
    x = np.concatenate([batch.x for batch in batches])[rows]
    column = np.random.Generator(np.random.PCG64(seed + 1)).choice(columns, len(rows))
    for at, (row, j) in enumerate(zip(rows, column, strict=True)):
        known = newest[:, j][np.isfinite(newest[:, j])].astype(np.float64)
        spread = 1.0 if roles[j] is Role.STANDARD or not len(known) else max(float(known.std()), 1e-6)
        usual = 0.0 if roles[j] is Role.STANDARD or not np.isfinite(newest[row, j]) else float(newest[row, j])
        x[at, -1, j] = usual + DEVIATIONS * spread
    return x


def _judged(
    parts: Assembly,
    models: LocalModels,
    version: str,
    partitions: Sequence[Sequence[FeatureBatch]],
    counted: Sequence[Bool],
    rows: Sequence[I64],
    spiked: Sequence[F32],
    redaction: Redaction,
) -> Outcome:
    flags = incidents = found = 0
    flagged: list[tuple[float, str]] = []
    for batches, counts, at, x in zip(partitions, counted, rows, spiked, strict=True):
        threshold = parts.folds.threshold.init(parts.folds.capacity)
        opened = parts.folds.incidents.init(parts.folds.capacity)
        limits, first = np.full(len(counts), np.inf), 0
        for batch in batches:
            scores = Scores.of(batch, version, models.score(version, [batch.x])[0])
            verdicts = parts.folds.threshold.step(threshold, scores)
            alerts = parts.folds.incidents.step(opened, verdicts)
            here = first + np.searchsorted(batch.row, verdicts.scores.features.row)
            limits[here] = verdicts.threshold
            counting = verdicts.flag & counts[here]
            flags += int(counting.sum())
            lines = alerts.row[(alerts.phase == Phase.opened) & (alerts.row >= 0)]
            incidents += int(counts[here[lines]].sum())
            flagged += _words(parts, models, version, verdicts, np.flatnonzero(counting), redaction)
            flagged = sorted(flagged, key=lambda one: -one[0])[:EXAMPLES]
            first += len(batch)
        if len(at):
            found += int((models.score(version, [x])[0] > limits[at]).sum())
    return Outcome(version, flags, incidents, found, [text for _, text in flagged])


def _words(
    parts: Assembly, models: LocalModels, version: str, verdicts: Verdicts, rows: I64, redaction: Redaction
) -> list[tuple[float, str]]:
    """The most unusual of the flagged rows: how far each is out, and its key and greatest reason."""
    rows = rows[np.argsort(-verdicts.deviation[rows], kind="stable")][:EXAMPLES]
    if not len(rows):
        return []
    features = verdicts.scores.features
    explanation = models.explain(version, features.x[rows])
    reasons = contributors(features, rows, explanation, parts.spec, 1)
    events = features.windows.keyed.events
    keys = [text_of(redaction.key(events.key[int(at)])) for at in features.row[rows]]
    return [
        (float(deviation), printable(f"{key}: {redaction.contributor(found[0]).text}"))
        for deviation, key, found in zip(verdicts.deviation[rows], keys, reasons, strict=True)
        if found
    ]
