"""Alerts and rejects on their way out: an alert waits until it is explained, and they leave as they came."""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stream_ad import metrics
from stream_ad.batch import I64, Alerts, RejectBatch, Verdicts
from stream_ad.config import Config
from stream_ad.config.features import FeatureSpec
from stream_ad.messages import alerts as alert
from stream_ad.messages import rejects as reject
from stream_ad.messages.explain import contributors
from stream_ad.messages.redact import Redaction
from stream_ad.protocols import Sink
from stream_ad.runtime.models import Models

if TYPE_CHECKING:
    from stream_ad.score.engine import Explaining

log = logging.getLogger(__name__)

DEPTH_BATCHES = 64
LOGGED_S = 10.0


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
        self._rejected = 0
        self._logged_at = time.monotonic() - LOGGED_S

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

    def reject(self, rejects: RejectBatch) -> None:
        if not len(rejects):
            return
        section = self._config.sink
        self._sink.send("rejects", reject.encode(rejects, section.max_record_bytes, section.rejects_payload))
        for reason in rejects.reason:
            metrics.REJECTS.labels(reason.partition(":")[0]).inc()
        self._rejected += len(rejects)
        self._log(rejects)

    def _log(self, rejects: RejectBatch) -> None:
        """Code and field of the latest one; what the field held is for the rejects topic alone."""
        now = time.monotonic()
        if now - self._logged_at < LOGGED_S:
            return
        raw, why = rejects.raw, ": ".join(rejects.reason[-1].split(": ")[:2])
        where = f"{raw.topic}/{raw.partition}/{raw.offset[rejects.row[-1]]}"
        log.warning("%d records rejected so far, the latest at %s: %s", self._rejected, where, why)
        self._logged_at = now

    def send_ready(self) -> None:
        while self._waiting and (self._waiting[0].explaining is None or self._waiting[0].explaining.done()):
            self._send(self._waiting.popleft())

    def send_all(self) -> None:
        while self._waiting:
            self._send(self._waiting.popleft())

    def _send(self, waiting: Waiting) -> None:
        reasons = {}
        if waiting.explaining is not None:
            batch, rows = waiting.verdicts.scores.features, waiting.rows
            explained = contributors(batch, rows, waiting.explaining.result(), self._spec)
            reasons = dict(zip(rows.tolist(), explained, strict=True))
        messages = alert.encode(
            waiting.alerts,
            waiting.verdicts,
            reasons,
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
