"""Split invariance, snapshots and independence of keys, over every registered fold, on any stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field, fields, make_dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from stream_ad import config, registry
from stream_ad.batch import I32, Alerts, KeyedBatch, Scores, Verdicts, WindowBatch
from stream_ad.config.features import FeatureSpec
from stream_ad.config.parts import KINDS
from stream_ad.fold.budget import Budget
from stream_ad.fold.calendar import Calendar
from stream_ad.fold.features.featuriser import Featuriser
from stream_ad.fold.incidents import Incidents, OutOfRange
from stream_ad.fold.keys import Keys
from stream_ad.fold.recent import Recent
from stream_ad.fold.silence import Silence
from stream_ad.testing import (
    check_carry,
    check_keys_independent,
    check_snapshot,
    check_split_invariance,
    cut,
    events_of,
)
from tests.support.batches import events
from tests.support.judged import NOW, scores, verdicts
from tests.support.strategies import streams

CAPACITY = 6
WINDOW = {"rows": 4, "hop": 2, "max_keys": CAPACITY}
# a part that has no such options does without
THRESHOLD = {"false_alarm_rate": 0.05, "escape_rows": 3, "escape_after": "5s", "half_life_rows": 20}
CONFIG = config.parse(
    {
        "window": WINDOW,
        "features": {
            "event": ["gap", "count:10s", "joint", "time_of_day"],
            "numeric": {"a": ["raw", "zscore", "zscore_daily", "ew_std:10", "sum:1m"], "b": ["diff", "zscore_weekly"]},
            "categorical": {"c": ["novelty", "frequency_overall", "burst_overall"]},
        },
        "threshold": THRESHOLD,
        "incidents": {"resolve_after": "10s", "resolve_rows": 3, "cooldown": "20s", "update_factor": 2},
        "silence": {"enabled": True, "min_gap": "4s", "deviations": 2, "min_events": 3},
    }
)
SPEC = FeatureSpec.of(CONFIG)


@st.composite
def judged_streams(draw: st.DrawFn) -> Scores:
    """Scores of a few keys: jumps, constants, level shifts, keys that are replaced, rows without a score.

    The first and the last row are scored, and the last one is an outlier: a law wants to see rows and flags.
    """
    n = draw(st.integers(2, 400))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    keys = draw(st.integers(1, CAPACITY))
    score = rng.normal(size=n) * draw(st.sampled_from([0.0, 1.0, 1e6]))
    score += draw(st.sampled_from([0.0, -1e9, 1e9])) + (np.arange(n) > n // 2) * draw(st.sampled_from([0.0, 10.0, 1e3]))
    score[rng.random(n) < 0.1] += 50.0
    score[-1] = 1e12
    fresh = np.flatnonzero(rng.random(n) < draw(st.sampled_from([0.0, 0.02, 0.3])))
    step = rng.choice([0, 10, 1_000, 30_000], n, p=[0.2, 0.4, 0.35, 0.05])
    ts = NOW + np.cumsum(step) - rng.choice([0, 3_000], n, p=[0.9, 0.1])
    scored = rng.random(n) < draw(st.sampled_from([1.0, 0.5]))
    scored[[0, -1]] = True
    row = np.flatnonzero(scored)
    slot = np.sort(rng.integers(0, keys, n)) if draw(st.booleans()) else rng.integers(0, keys, n)
    first = np.unique(slot, return_inverse=True)[1]  # slots are handed out from 0 on
    return scores(first.tolist(), score[row], ts_ms=ts.tolist(), fresh=set(fresh.tolist()), row=row.tolist())


def flagged(batch: Scores) -> Verdicts:
    rng = np.random.default_rng(len(batch))
    p = rng.choice([0.5, 1e-4, 1e-8], len(batch), p=[0.6, 0.3, 0.1])
    p[-1] = 1e-8
    return verdicts(batch, p.tolist(), np.flatnonzero((p < 0.1) & (rng.random(len(p)) < 0.1)).tolist())


CALENDAR = Calendar(
    config.Calendar.model_validate(
        {"quiet": [{"name": "q", "keys": ["k0", "k2"], "hours": f"{hour:02}:{minute:02}-{hour:02}:{minute + 2:02}"}
                   for hour in range(24) for minute in range(0, 60, 7)]}
    )
)  # fmt: skip


def hiding(batch: Scores) -> Verdicts:
    """Some keys have quiet times, and some events a value outside its range."""
    keyed = batch.features.windows.keyed
    outside = np.where(keyed.events.offset * 7919 % 11 == 3, 0, -1).astype(np.int32)
    outside[-1] = 0
    marked = replace(CALENDAR.hide(keyed), outside=outside)
    assume(not marked.quiet[-1])  # a law wants to see an alert
    features = replace(batch.features, windows=replace(batch.features.windows, keyed=marked))
    return flagged(replace(batch, features=features))


def threshold(name: str) -> Any:
    return registry.threshold(name)(KINDS["threshold"].read({"kind": name, **THRESHOLD}))


def within(whole: Any, at: list[int]) -> list[int]:
    """Cuts that lie within the batch."""
    return [1 + one % (events_of(whole) - 1) for one in at]


def crossed(slot: I32, at: int, scored: Sequence[int]) -> int:
    """The first of the `scored` events from `at` on that another key comes before."""
    found = [one for one in scored if one >= at and (slot[:one] != slot[one]).any()]
    assume(found)
    return found[0]


class Rationed:
    """Incidents within budgets, as one fold: each of the two sees its own arrays of the state."""

    def __init__(self) -> None:
        section = CONFIG.incidents.model_copy(
            update={
                "budget": config.Budget(incidents=6, period_ms=60_000),
                "key_budget": config.Budget(incidents=2, period_ms=30_000),
            }
        )
        self.incidents, self.budget = Incidents(section, 8), Budget(section, 1e-3)

    def init(self, capacity: int) -> Any:
        parts = [fold.init(capacity) for fold in (self.incidents, self.budget)]
        columns = [column for part in parts for column in fields(part)]
        made = make_dataclass("State", [(one.name, Any, field(metadata=one.metadata)) for one in columns])
        return made(*(getattr(part, one.name) for part in parts for one in fields(part)))

    def step(self, state: Any, batch: Verdicts) -> Alerts:
        return self.budget.step(state, self.incidents.step(state, batch))


JUDGES: dict[str, tuple[Callable[[], Any], Callable[[Scores], Any]]] = {
    **{
        f"threshold {name}": (lambda name=name: threshold(name), lambda batch: batch)
        for name in registry.names("threshold")
    },
    "incidents": (lambda: Incidents(CONFIG.incidents, 8), flagged),
    "budget": (Rationed, flagged),
    "silence": (lambda: Silence(CONFIG.silence, 8), flagged),
    "silence with a budget": (lambda: Silence(CONFIG.silence, 8, asks=True), flagged),
    "silence beside quiet times": (lambda: Silence(CONFIG.silence, 8, CALENDAR.times), hiding),
    "ranges": (lambda: OutOfRange(CONFIG.incidents, 8, True), hiding),
    "recent": (lambda: Recent(7, 1, 1), lambda batch: batch.features),
}


@pytest.mark.parametrize("name", JUDGES)
@settings(max_examples=25)
@given(batch=judged_streams(), at=st.lists(st.integers(0, 400), min_size=1, max_size=5))
def test_judges_keep_the_laws(name: str, batch: Scores, at: list[int]) -> None:
    make, given_to = JUDGES[name]
    whole = given_to(batch)
    cuts = within(whole, at)
    check_split_invariance(make, whole, cuts, CAPACITY)
    for one in cuts[:2]:
        check_snapshot(make, whole, one, CAPACITY)


@pytest.mark.parametrize("name", registry.names("window"))
@settings(max_examples=25)
@given(rows=streams(min_size=2), at=st.lists(st.integers(0, 60), min_size=1, max_size=5))
def test_keys_windows_and_features_keep_the_laws(name: str, rows: list[Any], at: list[int]) -> None:
    batch = events(rows)
    cuts = within(batch, at)

    def keys() -> Keys:
        return Keys(CONFIG.window, 64)

    def window() -> Any:
        return registry.window(name)(KINDS["window"].read({"kind": name, **WINDOW}), len(SPEC.numeric))

    check_split_invariance(keys, batch, cuts, CAPACITY)
    keyed: KeyedBatch = keys().step(keys().init(CAPACITY), batch)
    check_split_invariance(window, keyed, cuts, CAPACITY)
    windows: WindowBatch = window().step(window().init(CAPACITY), keyed)
    check_split_invariance(lambda: Featuriser(SPEC), windows, cuts, CAPACITY)
    for one in cuts[:2]:
        check_snapshot(window, keyed, one, CAPACITY)
        check_snapshot(lambda: Featuriser(SPEC), windows, one, CAPACITY)
        check_snapshot(keys, batch, one, CAPACITY, used=CAPACITY)
    one = crossed(keyed.slot, cuts[0], range(len(batch)))
    check_keys_independent(window, keyed, one, CAPACITY)
    check_keys_independent(lambda: Featuriser(SPEC), windows, one, CAPACITY)


@pytest.mark.parametrize("name", registry.names("threshold"))
@settings(max_examples=25)
@given(batch=judged_streams(), at=st.integers(0, 400))
def test_a_threshold_keeps_keys_apart(name: str, batch: Scores, at: int) -> None:
    features = batch.features
    one = crossed(features.windows.keyed.slot, min(at, int(features.row[-1])), features.row.tolist())
    check_keys_independent(lambda: threshold(name), batch, one, CAPACITY)


@pytest.mark.parametrize("name", ["incidents", "silence"])
@settings(max_examples=50)
@given(batch=judged_streams(), seed=st.integers(0, 99))
def test_what_is_told_of_a_key_does_not_depend_on_how_others_are_judged(name: str, batch: Scores, seed: int) -> None:
    make, given_to = JUDGES[name]
    verdicts = given_to(batch)
    keyed = batch.features.windows.keyed
    watched = int(keyed.slot[seed % len(keyed)])
    others = keyed.slot[batch.features.row] != watched
    rng = np.random.default_rng(seed)
    flag = np.where(others, rng.random(len(others)) < 0.3, verdicts.flag)
    changed = replace(
        verdicts,
        flag=flag,
        shift=np.where(others, flag & (rng.random(len(others)) < 0.3), verdicts.shift),
        p_value=np.where(others, rng.random(len(others)), verdicts.p_value),
        threshold=np.where(others, 0.0, verdicts.threshold),
    )
    names = {keyed.events.key[row] for row in np.flatnonzero(keyed.slot == watched)}

    def told(of: Verdicts) -> list[list[Any]]:
        alerts = make().step(make().init(CAPACITY), of)
        rows = [row for row, key in enumerate(alerts.key.tolist()) if key in names]
        columns = [column.name for column in fields(alerts) if column.name != "key"]
        return [[str(getattr(alerts, column)[row]) for column in columns] for row in rows]

    assert told(changed) == told(verdicts)


@pytest.mark.parametrize("name", registry.names("threshold"))
@settings(max_examples=25)
@given(batch=judged_streams(), r=st.integers(0, 80), seed=st.integers(0, 99))
def test_a_swap_of_models_is_a_function_of_the_state(name: str, batch: Scores, r: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    check_carry(lambda: threshold(name), batch, rng.normal(size=r), rng.normal(3, 9, size=r), CAPACITY)


@settings(max_examples=20)
@given(batch=judged_streams(), at=st.integers(0, 400))
def test_recent_windows_are_the_last_scored_ones_oldest_first(batch: Scores, at: int) -> None:
    features = batch.features
    features.x[:, 0, 0] = np.arange(len(features))
    fold = Recent(7, 1, 1)
    state = fold.init(0)
    for first, last in ((0, min(at, events_of(batch))), (min(at, events_of(batch)), events_of(batch))):
        fold.step(state, cut(features, first, last))
    assert fold.windows(state)[:, 0, 0].tolist() == list(range(len(features)))[-7:]
