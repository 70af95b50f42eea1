from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pytest

from stream_ad import config
from stream_ad.batch import Alerts, Phase, Rule, Strings, Verdicts
from stream_ad.fold import timers
from stream_ad.fold.alert_kernel import ASKED_AGAIN
from stream_ad.fold.calendar import quiet_times
from stream_ad.fold.silence import Silence
from tests.support.judged import NOW, scores, verdicts

SECTION = config.Silence(enabled=True, min_gap="60s", deviations=6, min_events=10)


def said(rows: Sequence[tuple[int, float]], first_offset: int = 0, seen: set[int] | None = None) -> Verdicts:
    """Events (slot, second)."""
    slot, ts_ms = [s for s, _ in rows], [NOW + int(1_000 * t) for _, t in rows]
    batch = scores(slot, np.zeros(len(rows)), ts_ms=ts_ms, first_offset=first_offset, seen=seen)
    return verdicts(batch, [0.5] * len(rows))


def run(
    rows: Sequence[tuple[int, float]],
    section: config.Silence = SECTION,
    quiet: Sequence[config.Quiet] = (),
    asks: bool = False,
) -> Alerts:
    fold = Silence(section, 16, quiet_times(quiet), asks)
    return fold.step(fold.init(64), said(rows))


def told(alerts: Alerts) -> list[tuple[str, str, int, int]]:
    assert (alerts.rule == Rule.silence).all()
    columns = zip(alerts.phase, alerts.key.tolist(), alerts.offset, alerts.about, strict=True)
    return [(Phase(p).name, k.decode(), int(o), int(a)) for p, k, o, a in columns]


def ticking(keys: Sequence[int], first_s: int, last_s: int, every_s: int = 1) -> list[tuple[int, float]]:
    return [(key, t) for t in range(first_s, last_s, every_s) for key in keys]


def test_a_key_that_stops_is_told_once_and_again_when_it_speaks() -> None:
    rows = [*ticking([0, 1], 0, 100), *ticking([1], 100, 400), (0, 400.0)]
    alerts = run(rows)
    (opened, resolved) = told(alerts)
    last = max(i for i, row in enumerate(rows[:-1]) if row[0] == 0)
    assert (opened[0], opened[1], opened[3]) == ("opened", "k0", last)
    assert 159 < rows[opened[2]][1] <= 161  # a minute after its last event at 99 s
    assert resolved == ("resolved", "k0", len(rows) - 1, last)
    assert alerts.expected_ms.tolist() == [60_000] * 2
    assert alerts.incident.tolist() == [opened[2]] * 2
    assert alerts.ts_ms.tolist() == [NOW + 99_000] * 2
    assert alerts.opened_ms.tolist() == [NOW + int(1_000 * rows[opened[2]][1])] * 2
    assert alerts.row.tolist() == [-1, -1]
    assert np.isnan([alerts.score, alerts.threshold, alerts.p_value, alerts.peak_p]).all()


def test_the_gap_allowed_follows_the_keys_own_rhythm() -> None:
    rows = sorted([*ticking([1], 0, 3_000), *ticking([0], 0, 1_000, every_s=40)], key=lambda row: row[1])
    rng = np.random.default_rng(0)
    rows = [(k, t + (rng.uniform(0, 20) if k == 0 else 0)) for k, t in rows]
    rows.sort(key=lambda row: row[1])
    alerts = run(rows)
    ((_, key, at, about),) = told(alerts)
    assert key == "k0"
    mean, std = 40.0, np.sqrt(2 * 20**2 / 12)
    assert alerts.expected_ms[0] / 1_000 == pytest.approx(mean + 6 * std, rel=0.35)
    assert rows[at][1] - rows[about][1] == pytest.approx(alerts.expected_ms[0] / 1_000, abs=1.3)


def test_a_key_without_a_rhythm_yet_may_stop() -> None:
    assert not len(run([*ticking([0, 1], 0, 9), *ticking([1], 9, 300)]))
    assert len(run([*ticking([0, 1], 0, 10), *ticking([1], 10, 300)])) == 1


def test_a_pause_of_the_whole_partition_is_no_silence() -> None:
    keys = range(20)
    rows = [*ticking(keys, 0, 100), *ticking(keys, 36_000, 36_100), *ticking(keys, 80_000, 80_050)]
    assert not len(run(rows))


def test_a_key_that_does_not_come_back_after_the_pause_is_missed() -> None:
    rows = [*ticking([0, 1], 0, 100), *ticking([1], 36_000, 36_100)]
    ((phase, key, at, _),) = told(run(rows))
    assert (phase, key) == ("opened", "k0")
    assert rows[at][1] == pytest.approx(36_030, abs=2)  # the pause counts for half a minute


def test_a_forgotten_key_is_missed_no_more() -> None:
    fold = Silence(SECTION, 16)
    state, seen = fold.init(2), set[int]()
    assert not len(fold.step(state, said(ticking([0, 1], 0, 100), seen=seen)))
    assert len(fold.step(state, said(ticking([1], 100, 200), 200, seen))) == 1
    seen.discard(0)  # another key takes slot 0 of the silent one
    assert not len(fold.step(state, said([*ticking([0], 200, 201), *ticking([1], 201, 400)], 300, seen)))


def test_many_keys_can_stop_at_once() -> None:
    keys = list(range(1, 50))
    rows = [*ticking([0, *keys], 0, 20), *ticking([0], 20, 200)]
    alerts = run(rows)
    assert sorted(alerts.key.tolist()) == sorted(b"k%d" % key for key in keys)
    assert len(set(alerts.offset.tolist())) <= 2


def test_a_new_slower_rhythm_is_learnt() -> None:
    rows = sorted([*ticking([1], 0, 40_000, 5), *ticking([0], 0, 1_000, 5), *ticking([0], 1_000, 40_000, 150)])
    rows.sort(key=lambda row: row[1])
    alerts = told(run(rows))
    assert 2 <= len(alerts) < 60  # not at each of its 260 later events
    assert rows[alerts[-1][2]][1] < 12_000


def test_nothing_is_kept_unless_enabled() -> None:
    fold = Silence(config.Silence(enabled=False), 16)
    state = fold.init(1_000)
    alerts = fold.step(state, said(ticking([0, 1], 0, 100)))
    assert (len(alerts), len(state.whole), len(alerts.key)) == (0, 0, 0)
    assert isinstance(alerts.key, Strings)


def test_the_wheel_tells_every_timer_in_time_and_none_before() -> None:
    rng = np.random.default_rng(0)
    n = 300
    wheel = timers.wheel(np.zeros(timers.BUCKETS, np.int64), np.zeros(3, np.int64), np.zeros((n, 3), np.int64))
    due: dict[int, int] = {}
    now = NOW
    assert timers.pop(now, wheel) == -1
    for _ in range(5_000):
        slot = int(rng.integers(n))
        if rng.random() < 0.15:
            timers.cancel(slot, wheel)
            due.pop(slot, None)
        else:
            due[slot] = now + int(rng.choice([0, 100, 5_000, 200_000, 2_000_000]) * rng.random())
            timers.arm(slot, due[slot], wheel)
        before = now
        now += int(rng.choice([0, 1, 100, 1_000, 400_000], p=[0.3, 0.3, 0.3, 0.09, 0.01]) * rng.random() * 2)
        while (slot := timers.pop(now, wheel)) >= 0:
            assert due.pop(slot) < now
        late = [at for at in due.values() if at + 2 * timers.TICK_MS < now and at + timers.TICK_MS < before]
        assert not late
    assert (wheel.link["previous"] != 0).sum() == len(due)


def maintenance(first_s: int, last_s: int) -> config.Quiet:
    first, last = (datetime.fromtimestamp(NOW / 1000 + at, UTC).isoformat() for at in (first_s, last_s))
    return config.Quiet.model_validate({"name": "m", "keys": ["k0"], "start": first, "end": last})


def test_a_key_that_falls_silent_in_a_quiet_time_is_due_after_its_end() -> None:
    rows = [*ticking([0, 1], 0, 100), *ticking([1], 100, 900)]
    (opened,) = told(run(rows, quiet=[maintenance(90, 600)]))
    assert opened[:2] == ("opened", "k0")
    assert 659 < rows[opened[2]][1] <= 662  # a minute after the end
    speaks = sorted([*ticking([1], 100, 900), *ticking([0], 640, 900)], key=lambda row: row[1])
    back = [*ticking([0, 1], 0, 100), *speaks]
    assert told(run(back)) != []
    assert told(run(back, quiet=[maintenance(90, 600)])) == []
    # another key's quiet time changes nothing
    others = config.Quiet.model_validate({"name": "m", "keys": ["k1"], "hours": "00:00-24:00"})
    assert told(run(rows, quiet=[others])) == told(run(rows))


def test_with_a_budget_a_silence_asks_again_each_time_it_has_doubled() -> None:
    """Neither in a quiet time, nor for a pause of the whole partition."""
    before, after = 1_000, 40_000
    rows = [*ticking([0, 1], 0, 100), *ticking([1], 100, before), *ticking([1], before + after, 2 * before + after)]
    alerts = run(rows, asks=True)
    assert (alerts.phase == [Phase.opened, *[ASKED_AGAIN] * (len(alerts) - 1)]).all()
    assert alerts.silent_ms / 60_000 == pytest.approx([1, 2, 4, 8, 16, 32][: len(alerts)], rel=0.1)
    assert len(alerts) == 5
    alerts = run(rows, quiet=[maintenance(200, before)], asks=True)
    assert alerts.silent_ms / 60_000 == pytest.approx([1, 16], rel=0.1)
    assert len(run(rows)) == 1
