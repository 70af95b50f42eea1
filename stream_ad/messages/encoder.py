"""Verdicts and rejects of a pipeline as messages, worded as its configuration asks."""

from __future__ import annotations

import numpy as np

from stream_ad.batch import I64, Alerts, Explanation, Message, Phase, RejectBatch, Rule, Verdicts
from stream_ad.config import Config
from stream_ad.config.features import FeatureSpec
from stream_ad.messages import alerts as alert
from stream_ad.messages import rejects as reject
from stream_ad.messages.explain import Contributor, contributors, out_of_range
from stream_ad.messages.redact import Redaction


def explained_rows(alerts: Alerts) -> I64:
    """[k] rows of the verdicts that a model has to explain before the alerts can be written, ascending."""
    return np.unique(alerts.row[alerts.row >= 0])


class Encoder:
    """Follows `pipeline` and `[sink]`; topic and partition are those of the records."""

    def __init__(self, config: Config, spec: FeatureSpec) -> None:
        self._pipeline, self._sink, self._spec = config.pipeline, config.sink, spec
        self._redaction = Redaction(config.sink.redact, config.record.key)
        self._valid = config.rules.valid

    def alerts(self, verdicts: Verdicts, alerts: Alerts, explanation: Explanation | None) -> list[Message]:
        """One message per alert. `explanation` is of `explained_rows(alerts)`, None where there are none."""
        batch, rows = verdicts.scores.features, explained_rows(alerts)
        reasons = contributors(batch, rows, explanation, self._spec) if explanation is not None else []
        raw = batch.windows.keyed.events.raw
        return alert.encode(
            alerts,
            verdicts,
            dict(zip(rows.tolist(), reasons, strict=True)),
            self._outside(verdicts, alerts),
            pipeline=self._pipeline,
            topic=raw.topic,
            partition=raw.partition,
            most_bytes=self._sink.max_record_bytes,
            payload_fields=self._sink.payload_fields,
            redaction=self._redaction,
        )

    def _outside(self, verdicts: Verdicts, alerts: Alerts) -> dict[int, Contributor]:
        """What lies outside its valid range, at the offsets of the events that the alerts are about."""
        keyed, told = verdicts.scores.features.windows.keyed, {}
        for offset in alerts.about[(alerts.rule == Rule.range) & (alerts.phase != Phase.resolved)].tolist():
            row = int(np.searchsorted(keyed.events.offset, offset))
            column = int(keyed.outside[row])
            field = self._spec.numeric[column]
            told[offset] = out_of_range(field, float(keyed.given[row, column]), self._valid[field])
        return told

    def rejects(self, rejects: RejectBatch) -> list[Message]:
        """One message per record."""
        return reject.encode(rejects, self._sink.max_record_bytes, self._sink.rejects_payload)
