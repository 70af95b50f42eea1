"""Alerts on their way out: each waits until it is explained, and they leave in the order in which they came."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stream_ad import alert, metrics
from stream_ad.batch import I64, Alerts, Verdicts
from stream_ad.config import Config
from stream_ad.explain import contributors
from stream_ad.models import Models
from stream_ad.protocols import Sink
from stream_ad.redact import Redaction
from stream_ad.spec import FeatureSpec

if TYPE_CHECKING:
    from stream_ad.score.engine import Explaining

DEPTH_BATCHES = 64


@dataclass(frozen=True, slots=True)
class Waiting:
    """Alerts of one batch of verdicts."""

    partition: int
    verdicts: Verdicts
    alerts: Alerts
    rows: I64  # of the verdicts, those to be explained
    explaining: Explaining | None  # None where there are none


class Outbox:
    """The device explains while the pipeline folds on."""

    def __init__(self, config: Config, spec: FeatureSpec, topic: str, models: Models, sink: Sink) -> None:
        self._config, self._spec, self._topic = config, spec, topic
        self._models, self._sink = models, sink
        self._redaction = Redaction(config.sink.redact, config.record.key)
        self._waiting: deque[Waiting] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, partition: int, verdicts: Verdicts, alerts: Alerts) -> None:
        """Waits for the oldest where `DEPTH_BATCHES` wait already: each holds on to the events it is about."""
        if len(self._waiting) >= DEPTH_BATCHES:
            self._send(self._waiting.popleft())
        rows = np.unique(alerts.row[alerts.row >= 0])
        explaining = None
        if len(rows):
            explaining = self._models.explain(verdicts.scores.version, verdicts.scores.features.x[rows])
        self._waiting.append(Waiting(partition, verdicts, alerts, rows, explaining))

    def send_ready(self) -> None:
        while self._waiting and (self._waiting[0].explaining is None or self._waiting[0].explaining.done()):
            self._send(self._waiting.popleft())

    def send_all(self) -> None:
        while self._waiting:
            self._send(self._waiting.popleft())

    def _send(self, waiting: Waiting) -> None:
        told = {}
        if waiting.explaining is not None:
            batch, rows = waiting.verdicts.scores.features, waiting.rows
            reasons = contributors(batch, rows, waiting.explaining.result(), self._spec)
            told = dict(zip(rows.tolist(), reasons, strict=True))
        messages = alert.encode(
            waiting.alerts,
            waiting.verdicts,
            told,
            pipeline=self._config.pipeline,
            topic=self._topic,
            partition=waiting.partition,
            most_bytes=self._config.sink.max_record_bytes,
            payload_fields=self._config.sink.payload_fields,
            redaction=self._redaction,
        )
        self._sink.send("alerts", messages)
        for rule, phase in zip(waiting.alerts.rule.tolist(), waiting.alerts.phase.tolist(), strict=True):
            metrics.alert(rule, phase)
