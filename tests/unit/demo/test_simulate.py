"""The demo's stream: the same for a seed, labelled only outside the record, anomalous where it says so."""

from __future__ import annotations

import itertools
from collections import defaultdict

import numpy as np
import orjson
import pytest

from stream_ad.demo.scenarios import SCENARIOS
from stream_ad.demo.simulate import Scenario, SimRecord, simulate

HISTORY = 20_000
RECORDS = 80_000


@pytest.fixture(scope="module", params=sorted(SCENARIOS))
def scenario(request: pytest.FixtureRequest) -> Scenario:
    return SCENARIOS[request.param]


@pytest.fixture(scope="module")
def records(scenario: Scenario) -> list[SimRecord]:
    return list(itertools.islice(simulate(scenario, 7, HISTORY), RECORDS))


def test_a_seed_is_a_stream(scenario: Scenario, records: list[SimRecord]) -> None:
    count = HISTORY + 5000  # well into the episodes
    assert list(itertools.islice(simulate(scenario, 7, HISTORY), count)) == records[:count]
    other = list(itertools.islice(simulate(scenario, 8, HISTORY), 100))
    assert [record.value for record in other] != [record.value for record in records[:100]]


def test_records_come_in_event_time(records: list[SimRecord]) -> None:
    times = [record.ts_ms for record in records]
    assert times == sorted(times)


def test_labels_never_reach_the_record(scenario: Scenario, records: list[SimRecord]) -> None:
    shapes = {tuple(sorted(orjson.loads(r.value))) for r in records if r.episode is None}
    assert len(shapes) == 1
    labelled = [record for record in records if record.episode is not None]
    assert {tuple(sorted(orjson.loads(record.value))) for record in labelled} == shapes
    for record in labelled:
        assert not any(kind.encode() in record.value for kind in scenario.kinds)


def test_history_is_quiet_and_every_kind_comes(scenario: Scenario, records: list[SimRecord]) -> None:
    assert all(record.episode is None for record in records[:HISTORY])
    assert {r.episode.kind for r in records if r.episode is not None} == set(scenario.kinds)


def test_episodes_span_their_records_and_keys_rest(scenario: Scenario, records: list[SimRecord]) -> None:
    spans = defaultdict(list)
    for record in records:
        if record.episode is not None:
            assert record.key == record.episode.key.encode()
            assert record.episode.start_ms <= record.ts_ms <= record.episode.end_ms
            if record.episode not in spans[record.key]:
                spans[record.key].append(record.episode)
    for episodes in spans.values():
        for before, after in itertools.pairwise(episodes):
            assert after.start_ms > before.end_ms + scenario.tolerance_ms


def test_rate_and_anomalies_are_as_announced(scenario: Scenario, records: list[SimRecord]) -> None:
    seconds = (records[-1].ts_ms - records[0].ts_ms) / 1000
    assert len(records) / seconds == pytest.approx(scenario.events_per_s, rel=0.2)
    live = records[HISTORY:]
    episodes = {record.episode.id for record in live if record.episode is not None}
    expected = (live[-1].ts_ms - live[0].ts_ms) / scenario.episode_every_ms
    assert len(episodes) == pytest.approx(expected, rel=0.4)
    assert sum(record.episode is not None for record in live) / len(live) < 0.01


def test_keys_have_habits_and_days(scenario: Scenario, records: list[SimRecord]) -> None:
    """Between-key variance dominates, and the time of day tells."""
    by_key = defaultdict(list)
    by_hour = defaultdict(list)
    for record in records[:HISTORY]:
        number = np.log1p(record.number)
        by_key[record.key].append(number)
        by_hour[record.ts_ms // 3_600_000 % 24].append(number)
    groups = [values for values in by_key.values() if len(values) > 3]
    within = np.mean([np.var(values) for values in groups])
    assert np.var([np.mean(values) for values in groups]) > 0.3 * within
    counts = [len(values) for values in by_hour.values()]
    levels = [np.mean(values) for values in by_hour.values()]
    assert max(counts) > 3 * min(counts) or max(levels) - min(levels) > 0.15


def test_silence_is_silent() -> None:
    records = list(itertools.islice(simulate(SCENARIOS["sensors"], 3, 5000), 40_000))
    silences = {r.episode for r in records if r.episode is not None and r.episode.kind == "silence"}
    assert silences
    for silence in silences:
        inside = [r for r in records if r.key == silence.key.encode() and silence.start_ms < r.ts_ms < silence.end_ms]
        assert inside == []
        assert silence.end_ms - silence.start_ms >= 4 * 3_600_000


def test_nothing_but_a_silence_is_silent() -> None:
    """A key goes on as usual until its episode begins, and after it."""
    last: dict[bytes, int] = {}
    for record in itertools.islice(simulate(SCENARIOS["sensors"], 3, 5000), 60_000):
        gap_ms = record.ts_ms - last.get(record.key, record.ts_ms)
        last[record.key] = record.ts_ms
        silent = (
            record.episode is not None and record.episode.kind == "silence" and record.ts_ms != record.episode.start_ms
        )
        assert (gap_ms > 600_000) == silent
