"""The log warns of rejects, at most every ten seconds."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from stream_ad import config
from stream_ad.batch import Message, RawBatch, RejectBatch
from stream_ad.config.features import FeatureSpec
from stream_ad.messages.encoder import Encoder
from stream_ad.runtime.outbox import Outbox
from stream_ad.runtime.reject_log import EVERY_S
from tests.support.clock import Clock

CONFIG = config.parse({"window": {"rows": 1}, "features": {"event": ["gap"]}})


class Sent:
    def send(self, role: str, messages: list[Message]) -> None: ...


def rejects(offset: int) -> RejectBatch:
    at = np.array([offset], np.int64)
    raw = RawBatch("t", 0, at, at, [None], [b"{"], lambda row: [], offset + 1)
    return RejectBatch(raw, [0], ["bad_number: a: 'hunter2'"])


def test_rejects_are_said_at_once_and_then_at_most_every_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    sink: Any = Sent()
    models: Any = None
    outbox = Outbox(Encoder(CONFIG, FeatureSpec.of(CONFIG)), models, sink, clock)
    with caplog.at_level(logging.WARNING):
        for offset, clock.now_s in enumerate([0.0, 1.0, EVERY_S - 0.1, EVERY_S, 2 * EVERY_S - 0.1, 5 * EVERY_S]):
            outbox.reject(rejects(offset))
    assert [record.getMessage() for record in caplog.records] == [
        f"{count} records rejected so far, the latest at t/0/{count - 1}: bad_number: a" for count in (1, 4, 6)
    ]
