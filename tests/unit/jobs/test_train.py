"""What a training refuses before it begins."""

from __future__ import annotations

import orjson
import pytest

from stream_ad.config import parse
from stream_ad.errors import InputError
from stream_ad.io.memory import MemorySource, Record
from stream_ad.jobs import train as training

CONFIG = parse({
    "record": {"key": "k", "timestamp": "t", "timestamp_format": "s"},
    "window": {"rows": 4, "late": "drop", "allowed_lateness": "1s"},
    "features": {"event": [], "numeric": {"a": ["zscore"], "aa": ["zscore"]}, "categorical": {"shop": ["novelty"]}},
    "train": {"min_events": 256},
})  # fmt: skip


def log(count: int = 300) -> dict[int, list[Record]]:
    records = [{"k": "x", "t": 1_780_000_000 + (0 if row == 200 else row), "a": row % 7} for row in range(count)]
    return {0: [Record(None, orjson.dumps(one)) for one in records] + [Record(None, b"{")]}


def test_a_field_that_no_event_has_is_named_and_nothing_is_learnt() -> None:
    read: list[training.Collector] = []
    with pytest.raises(InputError) as refused:
        training.fit(CONFIG, MemorySource("t", log()), "t", reading=read.append)
    assert str(refused.value).startswith("features.numeric.aa, features.categorical.shop: in none of 300 events of t; ")
    assert (read[-1].events, read[-1].rejects, read[-1].late) == (300, 1, 1)
