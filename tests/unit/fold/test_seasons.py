"""What is expected at an hour of the day, or of the week."""

from __future__ import annotations

import numpy as np
import pytest

from stream_ad.batch import F64, FeatureBatch
from stream_ad.config.features import FeatureSpec
from stream_ad.fold.features import seasons
from tests.support.batches import Row
from tests.support.featured import column, featured, spec_of

MONDAY = 1_767_571_200_000  # 2026-01-05, midnight
STEP_MS = 900_000
DAY = 86_400_000 // STEP_MS  # rows
DAILY = {"numeric": {"a": ["zscore", "zscore_daily"]}}
WEEKLY = {"numeric": {"a": ["zscore", "zscore_weekly"]}}


def rows_of(values: F64, key: str = "k", first: int = 0) -> list[Row]:
    return [(key, MONDAY + STEP_MS * (first + i), (value,)) for i, value in enumerate(values.tolist())]


def noise(days: int, seed: int = 0) -> F64:
    return np.random.default_rng(seed).normal(size=days * DAY)


def busy_by_day(days: int, seed: int = 0) -> F64:
    """10 at night and 30 by day, from 8 to 18 o'clock."""
    hour = np.arange(days * DAY) % DAY * 24 / DAY
    return 10.0 + 20.0 * ((hour >= 8) & (hour < 18)) + noise(days, seed)


def both(values: F64 | list[Row], spec: FeatureSpec) -> tuple[F64, F64]:
    """[n] the plain deviation and that of the season."""
    batch = featured(values if isinstance(values, list) else rows_of(values), spec)
    plain, season = (column(batch, spec, feature.name) for feature in spec.features)
    return plain, season


def test_what_is_usual_by_day_stands_out_at_night() -> None:
    values = busy_by_day(15)
    night = 14 * DAY + 3 * DAY // 24
    values[night] = 30.0
    plain, season = both(values, spec_of(**DAILY))
    assert abs(plain[night]) < 2.0
    assert season[night] > 1.5 * np.abs(season[10 * DAY : night]).max()
    assert season[10 * DAY : night].std() < 0.6 * plain[10 * DAY : night].std()


def test_a_weekend_is_expected_of_the_week_and_not_of_the_day() -> None:
    values = busy_by_day(42)
    day = np.arange(len(values)) // DAY % 7
    values[day >= 5] = 10.0 + noise(42, seed=1)[day >= 5]
    saturday = slice(40 * DAY, 41 * DAY)
    daily, weekly = both(values, spec_of(**DAILY))[1], both(values, spec_of(**WEEKLY))[1]
    assert np.abs(weekly[saturday]).max() < 0.6 * np.abs(daily[saturday]).max()


@pytest.mark.parametrize("features", [DAILY, WEEKLY])
def test_where_there_is_no_season_nothing_is_made_of_one(features: dict[str, object]) -> None:
    slow = np.convolve(noise(21), 0.95 ** np.arange(100))[: 21 * DAY]
    for values in (noise(21), slow, np.full(21 * DAY, 7.0)):
        plain, season = both(values, spec_of(**features))
        later = slice(3 * DAY, None)
        assert np.abs(season[later] - plain[later]).mean() < 0.35 * max(np.abs(plain[later]).mean(), 1.0)
        assert np.abs(season[later]).max() < 1.3 * max(np.abs(plain[later]).max(), 1.0)


def test_a_new_key_has_the_season_of_the_others_in_its_own_size() -> None:
    known = [row for k in range(6) for row in rows_of(busy_by_day(10, seed=k) * 10.0**k, f"k{k}")]
    new = rows_of(busy_by_day(2, seed=9) * 1e3 + 5e4, "new", 10 * DAY)
    spec = spec_of(**DAILY)
    plain, season = both(sorted(known, key=lambda row: row[1]) + new, spec)
    second = slice(-DAY, None)
    assert season[second].std() < 0.7 * plain[second].std()


def test_one_wild_day_does_not_become_the_season() -> None:
    values = busy_by_day(20)
    wild = slice(15 * DAY + DAY // 8, 15 * DAY + DAY // 8 + 4)
    values[wild] = 1e6
    season = both(values, spec_of(**DAILY))[1]
    untouched = both(busy_by_day(20), spec_of(**DAILY))[1]
    assert season[wild].min() > 30.0
    assert np.abs(season[16 * DAY :] - untouched[16 * DAY :]).max() < 0.6


def test_a_shift_of_the_level_is_no_season() -> None:
    values = busy_by_day(20)
    values[15 * DAY :] += 60.0
    plain, season = both(values, spec_of(**DAILY))
    first = slice(15 * DAY, 16 * DAY)
    assert season[first].min() > 0.8 * plain[first].min() > 2.0


def test_alerts_are_told_what_was_expected_at_the_hour() -> None:
    spec = spec_of(**DAILY)
    batch: FeatureBatch = featured(rows_of(busy_by_day(15)), spec)
    own, hourly = batch.base[-DAY:, 0, 0], batch.base[-DAY:, 1, 0]
    assert own.std() < 0.5
    assert hourly[DAY // 8] == pytest.approx(10.0, abs=2.5)  # 3 o'clock
    assert hourly[DAY // 2] == pytest.approx(30.0, abs=2.5)  # noon


def test_hours_begin_at_midnight_and_on_monday() -> None:
    for day in range(7):
        for hour in (0, 7, 23):
            ts_ms = MONDAY + 86_400_000 * day + 3_600_000 * hour + 1_800_000
            assert seasons.hour_of(ts_ms, seasons.DAY_HOURS) == hour + 0.5
            assert seasons.hour_of(ts_ms, seasons.WEEK_HOURS) == 24 * day + hour + 0.5
