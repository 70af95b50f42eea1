"""Quiet times against Python's own clocks and patterns, and what they hide."""

from __future__ import annotations

import fnmatch
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ad import config
from stream_ad.batch import RawBatch
from stream_ad.config.rules import DAYS, Quiet
from stream_ad.fold.calendar import quiet_times
from stream_ad.fold.calendar_kernel import mark, quiet_until
from stream_ad.score.local import LocalModels
from stream_ad.state.assemble import Assembly, judge

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Africa/Casablanca"]
MOMENTS = st.datetimes(datetime(1971, 1, 1), datetime(2099, 12, 31)).map(lambda moment: moment.replace(tzinfo=UTC))


def ms_of(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def until(quiet: Quiet, moment: datetime, key: bytes = b"k") -> datetime | None:
    end = quiet_until(quiet_times([quiet]), np.frombuffer(key, np.uint8), len(key), ms_of(moment))
    return datetime.fromtimestamp(end / 1000, UTC) if end >= 0 else None


def covers(quiet: Quiet, moment: datetime) -> bool:
    """In Python's own words."""
    local = moment.astimezone(ZoneInfo(quiet.timezone))
    first, last = (60 * int(text[:2]) + int(text[3:]) for text in (quiet.hours or "00:00-24:00").split("-"))
    minute, day = 60 * local.hour + local.minute, local.date()
    if first < last:
        inside = first <= minute < last
    else:
        inside, day = minute >= first or minute < last, day if minute >= first else day - timedelta(days=1)
    named = day.isoformat() in quiet.dates or f"{day:%m-%d}" in quiet.dates or DAYS[day.weekday()] in quiet.days
    return inside and (named or not (quiet.days or quiet.dates))


@settings(max_examples=300)
@given(
    moment=MOMENTS,
    zone=st.sampled_from(ZONES),
    days=st.lists(st.sampled_from(DAYS), max_size=3, unique=True),
    hours=st.sampled_from(["", "00:00-24:00", "02:00-04:00", "22:30-04:15", "23:59-00:00", "12:00-24:00"]),
    dates=st.sampled_from([[], ["12-25"], ["02-29"], ["this"]]),
)
def test_a_time_that_comes_again_is_that_of_the_clocks_there(
    moment: datetime, zone: str, days: list[str], hours: str, dates: list[str]
) -> None:
    local = moment.astimezone(ZoneInfo(zone)).date().isoformat()
    dates = [local if one == "this" else one for one in dates]
    hours = hours or ("" if days or dates else "00:00-24:00")
    quiet = Quiet.model_validate({"name": "q", "timezone": zone, "days": days, "hours": hours, "dates": dates})
    end = until(quiet, moment)
    assert (end is not None) == covers(quiet, moment)
    if end is not None:
        assert moment < end <= moment + timedelta(hours=26)


@given(zone=st.sampled_from(ZONES), moment=MOMENTS)
def test_the_end_is_the_first_moment_that_does_not_belong_to_it(zone: str, moment: datetime) -> None:
    quiet = Quiet.model_validate({"name": "q", "timezone": zone, "hours": "22:30-05:15"})
    end = until(quiet, moment)
    if end is not None:
        assert until(quiet, end) is None
        assert until(quiet, end - timedelta(milliseconds=1)) == end


def test_a_single_window_has_a_first_and_a_last_moment() -> None:
    quiet = Quiet.model_validate({"name": "q", "start": "2026-12-01T22:00:00+01:00", "end": "2026-12-02"})
    start, end = datetime(2026, 12, 1, 21, tzinfo=UTC), datetime(2026, 12, 2, tzinfo=UTC)
    assert until(quiet, start - timedelta(milliseconds=1)) is None
    assert until(quiet, start) == until(quiet, end - timedelta(milliseconds=1)) == end
    assert until(quiet, end) is None


@settings(max_examples=300)
@given(
    pattern=st.text("ab*?ü", min_size=1, max_size=8),
    key=st.text("abü", max_size=10),
)
def test_patterns_match_as_those_of_a_shell(pattern: str, key: str) -> None:
    quiet = Quiet.model_validate({"name": "q", "keys": ["never", pattern], "hours": "00:00-24:00"})
    expected = re.fullmatch(fnmatch.translate(pattern), key) is not None
    assert (until(quiet, datetime(2026, 1, 1, tzinfo=UTC), key.encode()) is not None) == expected


def test_the_latest_end_counts_and_each_event_is_marked_by_its_own_key_and_time() -> None:
    times = quiet_times(
        [
            Quiet.model_validate({"name": "a", "keys": ["db-*"], "hours": "02:00-03:00"}),
            Quiet.model_validate({"name": "b", "keys": ["db-1"], "hours": "02:30-05:00"}),
        ]
    )
    midnight = ms_of(datetime(2026, 11, 27, tzinfo=UTC))
    data = np.frombuffer(b"db-1db-2web", np.uint8)
    start = np.array([0, 4, 8, 11])
    for minutes, expected in ((150, [True, True, False]), (240, [True, False, False]), (60, [False] * 3)):
        quiet = np.zeros(3, np.bool_)
        mark(times, np.full(3, midnight + minutes * 60_000), data, start, quiet)
        assert quiet.tolist() == expected
    key = np.frombuffer(b"db-1", np.uint8)
    assert quiet_until(times, key, 4, midnight + 150 * 60_000) == midnight + 300 * 60_000


def test_beyond_the_years_that_are_known_the_last_offset_holds() -> None:
    quiet = Quiet.model_validate({"name": "q", "hours": "02:00-03:00", "timezone": "Asia/Kolkata"})
    assert until(quiet, datetime(2150, 6, 1, 21, tzinfo=UTC)) is not None  # half past two


DAY = ms_of(datetime(2026, 11, 27, tzinfo=UTC))
MAINTENANCE = [{"name": "backup", "keys": ["db-*"], "hours": "01:00-02:00"}]


def judge_day(values: np.ndarray, calendar: list[dict[str, Any]], key: str = "db-1") -> list[dict[str, Any]]:
    """Alerts on a key with an event every 5 s from midnight on."""
    settings = config.parse(
        {
            "record": {"key": "k", "timestamp": "t", "timestamp_format": "ms"},
            "features": {"event": ["gap"], "numeric": {"a": ["raw", "zscore", "zscore_diff", "zscore_std", "mean"]}},
            "calendar": {"quiet": calendar},
        }
    )
    parts = Assembly.of(settings)
    lines: list[bytes | None] = [
        orjson.dumps({"k": key, "t": DAY + 5000 * at, "a": float(value)}) for at, value in enumerate(values)
    ]
    n = len(lines)
    raw = RawBatch("t", 0, np.arange(n), np.full(n, -1), [None] * n, lines, lambda row: [], n)
    with LocalModels(settings) as models:
        return [orjson.loads(alert.value or b"") for alert in judge(parts, {0: parts.shard(0)}, [raw], models).alerts]


def opened(alerts: list[dict[str, Any]]) -> list[float]:
    """Hours of the day."""
    return [(alert["position"]["offset"] * 5) / 3600 for alert in alerts if alert["phase"] == "opened"]


def test_what_happens_in_a_quiet_time_is_neither_told_nor_learnt_and_leaves_no_trace() -> None:
    usual = np.random.default_rng(0).normal(100, 5, 5 * 720)
    usual[[500, 2000]] += 200  # before, and half an hour after
    busy = usual.copy()
    busy[720:1440] = np.random.default_rng(1).normal(5000, 900, 720)
    assert any(1 <= hour < 2.1 for hour in opened(judge_day(busy, [])))
    quiet = judge_day(busy, MAINTENANCE)
    assert opened(quiet) == [500 * 5 / 3600, 2000 * 5 / 3600]
    assert quiet == judge_day(usual, MAINTENANCE)
    # other keys are judged
    assert any(1 <= hour < 2.1 for hour in opened(judge_day(busy, MAINTENANCE, "web-1")))
