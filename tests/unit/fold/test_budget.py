from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from stream_ad import config
from stream_ad.batch import Alerts, Phase, Rule
from stream_ad.errors import ConfigError
from stream_ad.fold.budget import RING, Budget, Limit, share
from stream_ad.fold.incidents import Incidents
from stream_ad.fold.silence import Silence
from tests.support.alerts import alerts_of
from tests.support.judged import NOW, scores, verdicts

RATE = 1e-3
DAY_MS = 86_400_000


def section(**budgets: str) -> config.Incidents:
    return config.parse(
        {"incidents": {"resolve_rows": 3, "cooldown": "100s", "update_factor": 10, **budgets}}
    ).incidents


def opening(ms: Sequence[int], p: Sequence[float], slot: Sequence[int] | None = None) -> Alerts:
    """Incidents of keys that are all different, unless their slots are given."""
    slots = list(range(len(ms))) if slot is None else slot
    return alerts_of(
        *(
            {"offset": at, "incident": at, "key": b"k%d" % one, "slot": one, "now_ms": NOW + t, "p_value": q}
            for at, (t, q, one) in enumerate(zip(ms, p, slots, strict=True))
        )
    )


def offsets_told(fold: Budget, alerts: Alerts, capacity: int = 3000) -> list[int]:
    found: list[int] = fold.step(fold.init(capacity), alerts).offset.tolist()
    return found


def most_within(ms: Sequence[int], period_ms: float) -> int:
    return max((sum(first <= one < first + period_ms for one in ms) for first in ms), default=0)


@settings(max_examples=60)
@given(
    n=st.integers(1, 200),
    seed=st.integers(0, 2**32),
    scale_ms=st.sampled_from([10, 60_000, 3_600_000]),
    partitions=st.integers(1, 3),
)
def test_no_period_has_more_incidents_than_the_budget(n: int, seed: int, scale_ms: int, partitions: int) -> None:
    """Bursts, pauses, drifts of the severity: whatever comes."""
    rng = np.random.default_rng(seed)
    steps = rng.exponential(scale_ms, 1500) * rng.choice([0.0, 1.0, 100.0], 1500, p=[0.5, 0.49, 0.01])
    ms = np.cumsum(steps).astype(int).tolist()
    p = RATE * 10.0 ** -(rng.exponential(1.0, 1500) + np.linspace(0, rng.integers(0, 20), 1500))
    alerts = opening(ms, p.tolist())
    at = dict(enumerate(ms))
    told = [at[one] for one in offsets_told(Budget(section(budget=f"{n}/hour"), RATE, partitions), alerts)]
    limit = Limit.of(config.Budget(incidents=n, period_ms=3_600_000), RING, partitions)
    assert 0 < most_within(told, limit.period_ms) <= limit.incidents
    if n >= partitions:
        assert partitions * most_within(told, 3_600_000) <= n


@given(n=st.integers(1, 10**9), partitions=st.integers(1, 10_000), ring=st.sampled_from([16, 64]))
def test_the_shares_of_all_partitions_keep_the_budget(n: int, partitions: int, ring: int) -> None:
    limit = Limit.of(config.Budget(incidents=n, period_ms=DAY_MS), ring, partitions)
    assert 1 <= limit.incidents <= ring
    assert partitions * limit.incidents * DAY_MS / limit.period_ms <= n * (1 + 1e-9)


def test_a_share_says_what_it_is() -> None:
    twenty = config.Budget(incidents=20, period_ms=DAY_MS)
    assert share(twenty, 6) == "20/day among 6 partitions: 3 of each"
    assert share(twenty, 50) == "20/day among 50 partitions: one incident of each in 2.5 times the period"


def test_nothing_is_held_back_while_half_of_the_budget_is_unused() -> None:
    ms = [at * DAY_MS // 9 for at in range(200)]  # nine a day, each as mild as can be, where 20 may be told
    assert offsets_told(Budget(section(budget="20/day"), RATE), opening(ms, [RATE] * 200)) == list(range(200))


def test_a_short_budget_goes_to_the_severe() -> None:
    """A thousand mild incidents a day, and three that are a million times rarer; twenty may be told."""
    rng = np.random.default_rng(0)
    days, mild = 30, 1000
    ms = np.sort(rng.integers(0, days * DAY_MS, days * mild))
    p = RATE * 10.0 ** -rng.exponential(1 / np.log(10), len(ms))
    severe = rng.random(len(ms)) < 3 / mild
    p[severe] *= 1e-6
    fold = Budget(section(budget="20/day"), RATE)
    told = np.zeros(len(ms), bool)
    told[offsets_told(fold, opening(ms.tolist(), p.tolist(), [at % 3000 for at in range(len(ms))]))] = True
    known = ms > 2 * DAY_MS  # when the level is learnt
    assert told[severe & known].mean() > 0.9
    assert 14 <= told.sum() / days <= 20


def told_of(p: Sequence[float], fold: Budget, ts_s: Sequence[float] | None = None, slot: Sequence[int] = ()) -> Alerts:
    """What is told of verdicts with these p-values."""
    incidents = Incidents(section(budget="1/day"), 16)
    ts_ms = [NOW + round(1000 * s) for s in (range(len(p)) if ts_s is None else ts_s)]
    batch = scores(slot or [0] * len(p), np.zeros(len(p)), ts_ms=ts_ms)
    return fold.step(fold.init(8), incidents.step(incidents.init(8), verdicts(batch, p)))


def lines(alerts: Alerts) -> list[tuple[str, str, int, int]]:
    """(key, phase, offset, incident) of each."""
    rows = zip(alerts.key.tolist(), alerts.phase, alerts.offset, alerts.incident, strict=True)
    return [(key.decode(), Phase(phase).name, int(offset), int(incident)) for key, phase, offset, incident in rows]


FINE, BAD, WORSE = 0.5, 9e-4, 1e-9


def test_of_an_incident_that_is_held_back_nothing_is_told() -> None:
    alerts = told_of(
        [BAD, FINE, BAD, BAD, FINE, FINE, FINE, FINE], Budget(section(budget="1/day"), RATE), slot=[0, 0] + [1] * 6
    )
    assert lines(alerts) == [("k0", "opened", 0, 0)]


def test_an_incident_that_becomes_more_severe_is_told_after_all() -> None:
    """The fourth of four tells nothing at first: it is mild, and half of the budget is used."""
    slot = [0, 1, 2, 3, 3, 3, 3, 3, 3]
    alerts = told_of(
        [BAD, BAD, BAD, BAD, WORSE, FINE, FINE, FINE, FINE], Budget(section(budget="4/day"), RATE), slot=slot
    )
    assert ("k3", "opened", 4, 3) in lines(alerts)
    assert ("k3", "resolved", 7, 3) in lines(alerts)
    assert [one for one in lines(alerts) if one[0] == "k3" and one[2] == 3] == []
    assert alerts.events[lines(alerts).index(("k3", "opened", 4, 3))] == 2


@settings(max_examples=80)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 8))
def test_every_incident_is_told_in_order_or_not_at_all(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    rows = 400
    p = rng.choice([FINE, BAD, 1e-5, WORSE], rows, p=[0.6, 0.2, 0.1, 0.1]).tolist()
    ts_s = np.cumsum(rng.choice([1, 20, 400], rows, p=[0.8, 0.17, 0.03])).tolist()
    slot = rng.integers(0, 4, rows)
    slot = np.unique(slot, return_inverse=True)[1].tolist()
    alerts = told_of(p, Budget(section(budget=f"{n}/hour", key_budget="2/hour"), RATE), ts_s, slot)
    assume(len(alerts))
    phases = defaultdict(list)
    for _, phase, _, incident in lines(alerts):
        phases[incident].append(phase)
    for told in phases.values():
        assert told[0] == "opened"
        assert told.count("opened") == 1
        assert ("resolved", "resolved") not in list(pairwise(told))


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32))
def test_without_a_budget_all_is_told_as_it_was(seed: int) -> None:
    rng = np.random.default_rng(seed)
    slot = np.unique(rng.integers(0, 4, 300), return_inverse=True)[1].tolist()
    p = rng.choice([FINE, BAD, WORSE], 300, p=[0.6, 0.3, 0.1]).tolist()
    batch = verdicts(scores(slot, np.zeros(300), ts_ms=(NOW + 30_000 * np.arange(300)).tolist()), p)
    incidents, budget = Incidents(section(), 16), Budget(section(), RATE)
    alerts = incidents.step(incidents.init(8), batch)
    assert lines(budget.step(budget.init(8), alerts)) == lines(alerts)
    assert len(alerts) > 0


def test_a_key_has_its_own_budget_and_a_new_key_in_its_place_another() -> None:
    fold = Budget(section(key_budget="2/day"), RATE)
    state = fold.init(4)
    ms, slot = list(range(0, 12_000, 1000)), [0, 1] * 6
    told = fold.step(state, opening(ms, [1e-9] * 12, slot))
    assert told.slot.tolist() == [0, 1, 0, 1]
    newcomer = alerts_of({"offset": 99, "incident": 99, "key": b"new", "slot": 1, "now_ms": NOW + 20_000})
    assert len(fold.step(state, newcomer)) == 1
    assert fold.spent(state, NOW + 20_000).held == 8


def test_a_silence_counts_and_is_no_more_severe_than_it_can_know() -> None:
    fold = Budget(section(budget="4/day"), RATE)
    state = fold.init(3000)
    silent = {"rule": Rule.silence, "p_value": np.nan, "now_ms": NOW}
    told = fold.step(state, alerts_of(*({**silent, "offset": at, "incident": at, "slot": at} for at in range(1000))))
    assert 2 <= len(told) < 4  # the rest of the budget is left for what is worse
    assert len(fold.step(state, opening([1000], [1e-12]))) == 1


def test_a_silence_that_was_held_back_is_told_when_it_lasts() -> None:
    """Two keys stop at once, one of them for 100 s, one for good; three quarters of the budget are used."""
    stop, end = 100, 36_000
    again = {0: stop, 1: stop + 100, 2: end}
    speaking = [(key, t) for t in range(end) for key in range(3) if t < stop or t > again[key]]
    silence = Silence(config.Silence(enabled=True), 16, asks=True)
    batch = scores([key for key, _ in speaking], np.zeros(len(speaking)), ts_ms=[NOW + 1000 * t for _, t in speaking])
    asking = silence.step(silence.init(8), verdicts(batch, [FINE] * len(speaking)))
    asked = (asking.now_ms - asking.ts_ms)[asking.slot == 2] / 60_000  # minutes of silence
    assert asked == pytest.approx([1, 2, 4, 8, 16, 32, 64, 128, 256, 512], rel=0.1)
    fold = Budget(section(budget="4/day"), RATE)
    state = fold.init(8)
    assert len(fold.step(state, opening([0] * 3, [WORSE] * 3, [5, 6, 7]))) == 3
    told = fold.step(state, asking)
    assert [(key, phase) for key, phase, _, _ in lines(told)] == [("k2", "opened")]
    assert told.now_ms - told.ts_ms == pytest.approx(120_000, rel=0.1)


@pytest.mark.parametrize("text", ["20", "20/fortnight", "0/day", "-1/day", "1.5/day", "day", "20/day/day"])
def test_a_budget_that_is_none_says_what_one_is(text: str) -> None:
    with pytest.raises(ConfigError, match=r"incidents\.budget: a budget such as \"20/day\""):
        section(budget=text)


def test_a_value_outside_its_range_asks_for_an_incident_beside_that_of_the_score() -> None:
    """The two of a key are told, held back and resolved by themselves."""
    lines = [
        {"rule": rule, "phase": phase, "offset": at, "incident": incident, "slot": 0, "now_ms": NOW + at, "p_value": p}
        for at, (rule, phase, incident, p) in enumerate(
            [
                (Rule.score, Phase.opened, 0, 1e-9),
                (Rule.range, Phase.opened, 1, np.nan),
                (Rule.score, Phase.resolved, 0, 1e-9),
                (Rule.range, Phase.resolved, 1, np.nan),
            ]
        )
    ]
    alone = Budget(section(budget="1/day"), RATE)
    assert offsets_told(alone, alerts_of(*lines)) == [0, 2]
    assert offsets_told(alone, alerts_of(*lines[1:2], *lines[3:])) == [1, 3]
    assert offsets_told(Budget(section(budget="4/day"), RATE), alerts_of(*lines)) == [0, 1, 2, 3]
