"""Holds alerts until they are explained, and sends alerts and rejects in the order in which they came."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stream_ad import metrics
from stream_ad.batch import Alerts, RejectBatch, Verdicts
from stream_ad.codec.decoded import nbytes
from stream_ad.messages.encoder import Encoder, explained_rows
from stream_ad.protocols import Sink
from stream_ad.runtime.models import Models
from stream_ad.runtime.reject_log import RejectLog

if TYPE_CHECKING:
    from stream_ad.score.engine import Explaining

DEPTH_BATCHES = 64
DEPTH_BYTES = 64 << 20  # of the records of these batches, and what the latest one brings


@dataclass(frozen=True, slots=True)
class Waiting:
    """Alerts of one batch of verdicts."""

    verdicts: Verdicts
    alerts: Alerts
    nbytes: int  # of the records that this keeps in memory
    explaining: Explaining | None  # None where nothing is to be explained


class Outbox:
    """Has the engine explain alerts while the pipeline folds on."""

    def __init__(
        self, encoder: Encoder, models: Models, sink: Sink, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._encoder, self._models, self._sink = encoder, models, sink
        self._waiting: deque[Waiting] = deque()
        self._held = 0  # bytes
        self._reject_log = RejectLog(clock)

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, verdicts: Verdicts, alerts: Alerts) -> None:
        """Sends the oldest batches first, once they are explained, where `DEPTH_BATCHES` or `DEPTH_BYTES` wait: each
        keeps its records in memory."""
        while self._waiting and (len(self._waiting) >= DEPTH_BATCHES or self._held >= DEPTH_BYTES):
            self._send_next()
        rows = explained_rows(alerts)
        explaining = None
        if len(rows):
            explaining = self._models.explaining(verdicts.scores.version, verdicts.scores.features.x[rows])
        held = nbytes(verdicts.scores.features.windows.keyed.events.raw)
        self._held += held
        self._waiting.append(Waiting(verdicts, alerts, held, explaining))

    def reject(self, rejects: RejectBatch) -> None:
        if not len(rejects):
            return
        messages = self._encoder.rejects(rejects)
        self._sink.send("rejects", messages)
        for reason in rejects.reason:
            metrics.REJECTS.labels(reason.partition(":")[0]).inc()
        self._reject_log.note(messages)

    def send_ready(self) -> None:
        while self._waiting and (self._waiting[0].explaining is None or self._waiting[0].explaining.done()):
            self._send_next()

    def send_all(self) -> None:
        while self._waiting:
            self._send_next()

    def _send_next(self) -> None:
        waiting = self._waiting.popleft()
        self._held -= waiting.nbytes
        explanation = waiting.explaining.result() if waiting.explaining is not None else None
        self._sink.send("alerts", self._encoder.alerts(waiting.verdicts, waiting.alerts, explanation))
        for rule, phase in zip(waiting.alerts.rule.tolist(), waiting.alerts.phase.tolist(), strict=True):
            metrics.alert(rule, phase)
