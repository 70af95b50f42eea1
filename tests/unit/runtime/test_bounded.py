"""Queues within the process are bounded: a thread that fills one waits until there is room."""

from __future__ import annotations

from typing import Any

import numpy as np

from stream_ad import config
from stream_ad.batch import Explanation, Message, RawBatch
from stream_ad.codec.decoded import Decoded
from stream_ad.config.features import FeatureSpec
from stream_ad.fold.incidents import Incidents
from stream_ad.messages.encoder import Encoder
from stream_ad.runtime.outbox import DEPTH_BATCHES as OUTBOX_BATCHES
from stream_ad.runtime.outbox import Outbox
from stream_ad.runtime.reader import DEPTH_BATCHES as READER_BATCHES
from stream_ad.runtime.reader import Reader
from stream_ad.state import assemble
from tests.support.judged import scores, verdicts
from tests.support.waiting import WAIT_S, until

CONFIG = config.parse({"window": {"rows": 1}, "features": {"event": ["gap"]}})


class Slow:
    """An explanation that is there only once it is waited for."""

    def __init__(self, x: np.ndarray) -> None:
        self._x = x

    def done(self) -> bool:
        return False

    def result(self) -> Explanation:
        return Explanation(np.ones_like(self._x), np.zeros_like(self._x), np.ones(self._x.shape[2], np.float32))


class Explaining:
    def explaining(self, version: str, x: np.ndarray) -> Slow:
        return Slow(x)


class Sent:
    def __init__(self) -> None:
        self.messages: list[Message] = []

    def send(self, role: str, messages: list[Message]) -> None:
        self.messages += messages


def test_the_outbox_waits_for_the_explainer_and_keeps_the_order() -> None:
    sent, incidents = Sent(), Incidents(CONFIG.incidents, 64)
    models: Any = Explaining()
    outbox = Outbox(Encoder(CONFIG, FeatureSpec.of(CONFIG)), models, sent)  # type: ignore[arg-type]
    state = incidents.init(1000)
    for slot in range(3 * OUTBOX_BATCHES):
        judged = verdicts(scores([slot], [9.0], first_offset=slot), [1e-9])
        alerts = incidents.step(state, judged)
        assert len(alerts) == 1
        outbox.add(judged, alerts)
        outbox.send_ready()
        assert len(outbox) <= OUTBOX_BATCHES
    outbox.send_all()
    assert [message.key for message in sent.messages] == [b"k%d" % slot for slot in range(3 * OUTBOX_BATCHES)]


class Endless:
    """A source that always has more."""

    topic = "t"

    def __init__(self) -> None:
        self.polls = 0

    def open(self, listener: object) -> None: ...

    def poll(self, timeout_ms: int) -> list[RawBatch]:
        self.polls += 1
        at = np.array([self.polls - 1], np.int64)
        return [RawBatch("t", 0, at, at, [None], [b"{}"], lambda row: [], self.polls)]

    def finished(self) -> bool:
        return False

    def close(self) -> None: ...


def test_the_reader_waits_for_the_pipeline_and_loses_nothing() -> None:
    source = Endless()
    with Reader(source, assemble.codec(CONFIG)) as reader:
        until(lambda: source.polls > READER_BATCHES)
        for expected in range(3 * READER_BATCHES):
            item = reader.get(WAIT_S)
            assert isinstance(item, Decoded)
            assert item.raw.next_offset == expected + 1
            assert source.polls <= expected + 1 + READER_BATCHES + 1  # one more waits to be put
