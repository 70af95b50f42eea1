"""What is counted of a run, and when."""

from __future__ import annotations

import logging

import numpy as np
import orjson
import pytest

from stream_ad.config import parse
from stream_ad.config.features import FeatureSpec
from stream_ad.io.memory import Record
from stream_ad.runtime.tally import Tally
from stream_ad.state.assemble import Assembly
from tests.support.batches import events
from tests.support.in_memory import life

CONFIG = parse({
    "record": {"key": "k", "timestamp": "ts", "timestamp_format": "ms"},
    "window": {"rows": 4, "late": "drop", "allowed_lateness": "1s"},
    "features": {"numeric": {"a": ["zscore"]}},
})  # fmt: skip
LATE = (3, 4, 9)


def at_s(row: int) -> int:
    return 0 if row in LATE else row


def test_every_record_is_judged_rejected_or_dropped_and_all_are_said(caplog: pytest.LogCaptureFixture) -> None:
    values = [orjson.dumps({"k": "x", "ts": 1_780_000_000_000 + 1000 * at_s(row), "a": 1.0}) for row in range(20)]
    values[5:7] = [b"{", b"[]"]
    records = [Record(None, value) for value in values]
    totals = [0, 0, 0]
    life(CONFIG, records, poll_rows=7, totals=totals)
    assert totals == [20 - 2 - len(LATE), 2, len(LATE)]
    assert any("late events dropped so far" in record.getMessage() for record in caplog.records)


def test_only_what_is_committed_counts_and_nothing_that_was_judged_before() -> None:
    shard = Assembly.of(CONFIG).shard(0)
    features = shard.submit(events([("k", 1000 * row, [1.0]) for row in range(10)]))
    tally = Tally(FeatureSpec.of(CONFIG))
    tally.judged(features, rejects=2, first=4)
    assert tally.totals == [0, 0, 0]
    tally.committed()
    tally.committed()
    assert list(tally.totals) == [6, 2, 0]
    assert tally.fields.events == 6
    assert np.all(tally.fields.missing == 0)
    assert logging.getLogger("stream_ad.runtime.fields").isEnabledFor(logging.WARNING)
