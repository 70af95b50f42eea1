"""Queues within the process are bounded: a thread that fills one waits until there is room."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stream_ad import config
from stream_ad.batch import Explanation, Message, RawBatch
from stream_ad.codec.decoded import Decoded
from stream_ad.config.features import FeatureSpec
from stream_ad.fold.incidents import Incidents
from stream_ad.messages.encoder import Encoder
from stream_ad.runtime import reader
from stream_ad.runtime.microbatch import MOST_BYTES, Flights, Item
from stream_ad.runtime.outbox import DEPTH_BATCHES as OUTBOX_BATCHES
from stream_ad.runtime.outbox import DEPTH_BYTES, Outbox
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
    with Reader(source, assemble.codec(CONFIG)) as reading:
        until(lambda: source.polls > READER_BATCHES)
        for expected in range(3 * READER_BATCHES):
            item = reading.get(WAIT_S)
            assert isinstance(item, Decoded)
            assert item.raw.next_offset == expected + 1
            assert source.polls <= expected + 1 + READER_BATCHES + 1  # one more waits to be put


class Large(Endless):
    """Whose records are larger than all that may wait."""

    def poll(self, timeout_ms: int) -> list[RawBatch]:
        (raw,) = super().poll(timeout_ms)
        return [replace(raw, **{self.part: [bytes(reader.DEPTH_BYTES)]}) if self.part != "headers" else headed(raw)]

    def __init__(self, part: str) -> None:
        super().__init__()
        self.part = part


def headed(raw: RawBatch) -> RawBatch:
    return replace(raw, headers=lambda row: [("h", bytes(reader.DEPTH_BYTES))])


@pytest.mark.parametrize("part", ["key", "value", "headers"])
def test_the_reader_waits_when_few_records_are_large(part: str) -> None:
    source = Large(part)
    with Reader(source, assemble.codec(CONFIG)) as reading:
        for taken in range(4):
            until(reading.crowded)
            assert source.polls <= taken + 2, "one waits, and one more to be put"
            assert isinstance(reading.get(WAIT_S), Decoded)


def test_the_outbox_waits_for_the_explainer_when_few_records_are_large() -> None:
    sent, incidents = Sent(), Incidents(CONFIG.incidents, 64)
    models: Any = Explaining()
    outbox = Outbox(Encoder(CONFIG, FeatureSpec.of(CONFIG)), models, sent)  # type: ignore[arg-type]
    state = incidents.init(1000)
    for slot in range(5):
        judged = verdicts(scores([slot], [9.0], first_offset=slot), [1e-9])
        judged.scores.features.windows.keyed.events.raw.value[:] = [bytes(DEPTH_BYTES)]
        outbox.add(judged, incidents.step(state, judged))
        assert len(outbox) == 1
    assert len(sent.messages) == 4


def test_a_batch_for_the_device_is_closed_when_few_records_are_large() -> None:
    models: Any = None
    flights = Flights(CONFIG.scoring.model_copy(update={"latency": 3_600_000}), models)
    shard: Any = SimpleNamespace(version="1")
    assignment: Any = SimpleNamespace(shard=shard)
    for number in range(1, 4):
        flights.add(Item(assignment, number, 0, MOST_BYTES // 2, [], None))
        assert len(list(flights.landed())) == (2 if number == 2 else 0)
    assert len(list(flights.drained())) == 1
