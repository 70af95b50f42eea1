"""A field that has gone is said once, and so is its return."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_ad.batch import EventBatch, KeyedBatch, RawBatch, Strings
from stream_ad.config import parse
from stream_ad.config.features import FeatureSpec
from stream_ad.runtime.fields import LEAST, MANY, Fields

SPEC = FeatureSpec.of(parse({"features": {"numeric": {"temp": ["zscore"]}, "categorical": {"shop": ["novelty"]}}}))


def keyed(temp: list[bool], shop: list[bool] | None = None, quiet: bool = False, first: int = 0) -> KeyedBatch:
    n = len(temp)
    raw = RawBatch("t", 0, np.arange(n), np.zeros(n, np.int64), [b"k"] * n, [b"{}"] * n, lambda _: [], n)
    names = Strings.of([b"k"] * n)
    values = np.where(temp, 1.0, np.nan)[:, None]
    codes = np.asarray(shop if shop is not None else [True] * n, np.uint64)[:, None]
    ts_ms = 1000 * np.arange(first, first + n)
    events = EventBatch(raw, np.arange(n), raw.offset, ts_ms, names, values, (names,), codes)
    batch = KeyedBatch.of(events, np.zeros(n, np.int32), np.zeros(n, np.bool_), ts_ms)
    batch.quiet[:] = quiet
    return batch


def test_a_field_that_goes_and_comes_back_is_said_once_each(caplog: pytest.LogCaptureFixture) -> None:
    fields = Fields(SPEC)
    fields.note(keyed([True] * 50))
    for step in range(30):
        fields.note(keyed([False] * 10, first=50 + 10 * step))
    fields.note(keyed([False, True], first=350))
    assert [record.getMessage() for record in caplog.records] == [
        f"features.numeric.temp: in none of the last {LEAST} events, since 1970-01-01T00:00:49.000Z; "
        "has it been renamed?",
        "features.numeric.temp: there again since 1970-01-01T00:05:51.000Z, after 301 events without",
    ]
    assert fields.never() == []
    assert fields.missing.tolist() == [301, 0]


def test_a_name_that_no_event_has_is_said(caplog: pytest.LogCaptureFixture) -> None:
    fields = Fields(SPEC)
    for _ in range(20):
        fields.note(keyed([False] * 50, [False] * 50))
    said = [record.getMessage() for record in caplog.records]
    assert [line.partition(":")[0] for line in said] == ["features.numeric.temp", "features.categorical.shop"]
    assert fields.never() == ["features.numeric.temp", "features.categorical.shop"]


def test_what_the_calendar_or_a_rule_hides_has_not_gone(caplog: pytest.LogCaptureFixture) -> None:
    fields = Fields(SPEC)
    fields.note(keyed([False] * 500, [False] * 500, quiet=True))
    assert not caplog.records
    assert fields.never() == []


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=40), min_size=1, max_size=30))
def test_how_the_log_is_cut_changes_nothing(parts: list[list[bool]]) -> None:
    cut, whole, rows = Fields(SPEC), Fields(SPEC), [one for part in parts for one in part]
    at = 0
    for part in parts:
        cut.note(keyed(part, first=at))
        at += len(part)
    whole.note(keyed(rows))
    for name in ("missing", "_absent", "_longest", "_latest_ms"):
        assert getattr(cut, name).tolist() == getattr(whole, name).tolist(), name


def test_a_field_that_is_often_missing_has_not_gone(caplog: pytest.LogCaptureFixture) -> None:
    fields, log = Fields(SPEC), logging.getLogger("stream_ad.runtime.fields")
    assert log.isEnabledFor(logging.WARNING)
    absent = LEAST // 2
    for _ in range(5):
        fields.note(keyed([True, *[False] * absent]))
    fields.note(keyed([False] * (MANY * absent - absent - 1)))
    assert not caplog.records
    fields.note(keyed([False]))
    assert len(caplog.records) == 1
