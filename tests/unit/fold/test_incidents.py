from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ad import config
from stream_ad.batch import Alerts, Phase, Rule
from stream_ad.fold.incidents import Incidents
from stream_ad.fold.timers import TICK_MS
from tests.support.judged import NOW, scores, verdicts

SECTION = config.Incidents(resolve_after="60s", resolve_rows=3, cooldown="100s", update_factor=10)
BAD, WORSE, WORST, ODD, FINE = 1e-4, 1e-6, 1e-9, 0.01, 0.5


def told(alerts: Alerts) -> list[tuple[str, str, str, int, int, int]]:
    """(rule, phase, key, offset, incident, about) of each."""
    columns = zip(
        alerts.rule, alerts.phase, alerts.key.tolist(), alerts.offset, alerts.incident, alerts.about, strict=True
    )
    return [(Rule(r).name, Phase(p).name, k.decode(), int(o), int(i), int(a)) for r, p, k, o, i, a in columns]


def run(
    slot: Sequence[int],
    p: Sequence[float],
    ts_s: Sequence[float] | None = None,
    shift: Sequence[int] = (),
    **more: object,
) -> Alerts:
    fold = Incidents(SECTION, 16)
    ts_ms = None if ts_s is None else [NOW + round(1_000 * s) for s in ts_s]
    batch = scores(slot, np.arange(len(p), dtype=np.float64), ts_ms=ts_ms, **more)  # type: ignore[arg-type]
    return fold.step(fold.init(8), verdicts(batch, p, shift))


def test_consecutive_flags_are_one_incident() -> None:
    alerts = run([0] * 8, [FINE, BAD, BAD, FINE, BAD, FINE, FINE, FINE])
    assert told(alerts) == [("score", "opened", "k0", 1, 1, 1), ("score", "resolved", "k0", 7, 1, 4)]
    assert alerts.row.tolist() == [1, -1]
    assert alerts.events.tolist() == [1, 3]
    assert alerts.score.tolist() == [1.0, 4.0]
    assert alerts.opened_ms.tolist() == [NOW + 1_000] * 2
    assert alerts.ts_ms.tolist() == [NOW + 1_000, NOW + 4_000]
    assert alerts.expected_ms.tolist() == [0, 0]


def test_what_is_neither_flagged_nor_normal_keeps_an_incident_open() -> None:
    p = [BAD, FINE, FINE, ODD, FINE, FINE, ODD, BAD, FINE, FINE, FINE, ODD]
    alerts = run([0] * len(p), p)
    assert told(alerts) == [("score", "opened", "k0", 0, 0, 0), ("score", "resolved", "k0", 10, 0, 7)]


def test_the_time_to_an_incidents_end_begins_with_the_last_row_that_was_not_normal() -> None:
    alerts = run([0, 0, 1, 1, 1], [BAD, ODD, FINE, FINE, FINE], [0, 50, 61, 109, 111])
    assert told(alerts) == [("score", "opened", "k0", 0, 0, 0), ("score", "resolved", "k0", 4, 0, 0)]


def test_an_update_needs_a_lower_p_value_and_the_cooldown() -> None:
    p = [BAD, WORST, WORST, BAD / 2, WORSE, WORST, WORST]
    alerts = run([0] * 7, p, [0, 10, 50, 101, 102, 150, 210])
    assert told(alerts) == [
        ("score", "opened", "k0", 0, 0, 0),
        ("score", "updated", "k0", 4, 0, 4),
        ("score", "updated", "k0", 6, 0, 6),
    ]
    assert alerts.p_value.tolist() == [BAD, WORSE, WORST]
    assert alerts.peak_p.tolist() == [BAD, WORST, WORST]
    assert alerts.events.tolist() == [1, 5, 7]


def test_another_keys_event_resolves_when_the_watermark_passes() -> None:
    alerts = run([0, 1, 1, 1], [BAD, FINE, FINE, FINE], [0, 59, 60, 60.3])
    assert told(alerts) == [("score", "opened", "k0", 0, 0, 0), ("score", "resolved", "k0", 3, 0, 0)]


def test_one_event_can_resolve_many() -> None:
    n = 100
    fold = Incidents(SECTION, 16)
    batch = verdicts(scores([*range(n), 100], np.zeros(n + 1)), [BAD] * n + [FINE])
    state = fold.init(101)
    assert len(fold.step(state, batch)) == n + 40  # the oldest were resolved meanwhile
    last = verdicts(scores([100], [0.0], first_offset=100_000, seen={100}), [FINE])
    alerts = fold.step(state, last)
    assert [a[1] for a in told(alerts)] == ["resolved"] * 60
    assert alerts.offset.tolist() == [100_000] * 60
    assert sorted(alerts.incident.tolist()) == list(range(40, 100))


def test_a_flag_soon_after_the_end_continues_silently_and_ends_silently() -> None:
    p = [BAD, FINE, FINE, FINE, BAD, FINE, FINE, FINE, BAD]
    alerts = run([0] * 9, p, [0, 1, 2, 3, 20, 21, 22, 23, 100])
    assert told(alerts) == [
        ("score", "opened", "k0", 0, 0, 0),
        ("score", "resolved", "k0", 3, 0, 0),
        ("score", "opened", "k0", 8, 8, 8),
    ]
    assert alerts.events.tolist() == [1, 1, 1]


def test_a_silently_continued_incident_that_grows_worse_is_told_again() -> None:
    alerts = run([0] * 8, [BAD, FINE, FINE, FINE, BAD, WORSE, FINE, FINE], [0, 1, 2, 3, 90, 140, 141, 260])
    assert told(alerts) == [
        ("score", "opened", "k0", 0, 0, 0),
        ("score", "resolved", "k0", 3, 0, 0),
        ("score", "updated", "k0", 5, 0, 5),
        ("score", "resolved", "k0", 7, 0, 5),
    ]


def test_no_key_sends_the_same_alert_fifteen_times() -> None:
    p = ([BAD] + [FINE] * 3) * 5_000
    alerts = run([0] * len(p), p, [i / 100 for i in range(len(p))])
    assert len(alerts) <= 2 * (200 // 100 + 1)


def test_a_forgotten_keys_incident_is_resolved_under_its_own_name() -> None:
    fold = Incidents(SECTION, 16)
    state, seen = fold.init(1), set[int]()
    fold.step(state, verdicts(scores([0], [9.0], seen=seen), [BAD]))
    batch = scores([0, 0], [9.0], row=[1], first_offset=1, fresh=[0], seen=seen)
    keyed = batch.features.windows.keyed
    object.__setattr__(keyed.events, "key", type(keyed.events.key).of([b"another", b"another"]))
    alerts = fold.step(state, verdicts(batch, [BAD]))
    assert told(alerts) == [("score", "resolved", "k0", 1, 0, 0), ("score", "opened", "another", 2, 2, 2)]


def test_a_forgotten_keys_timer_does_not_end_the_next_keys_incident() -> None:
    alerts = run([0, 0, 1, 0], [BAD, FINE, FINE, BAD], [0, 1, 61, 62], fresh=[1])
    assert [(phase, offset, incident) for _, phase, _, offset, incident, _ in told(alerts)] == [
        ("opened", 0, 0),
        ("resolved", 1, 0),
        ("opened", 3, 3),
    ]


def test_a_shift_is_told_once_and_ends_the_incident() -> None:
    alerts = run([0] * 6, [BAD, BAD, BAD, FINE, FINE, FINE], shift=[2])
    assert told(alerts) == [
        ("score", "opened", "k0", 0, 0, 0),
        ("shift", "opened", "k0", 2, 2, 2),
        ("score", "resolved", "k0", 2, 0, 2),
    ]
    assert alerts.row.tolist() == [0, 2, -1]
    assert alerts.events.tolist() == [1, 3, 3]
    assert alerts.opened_ms.tolist() == [NOW] * 3


@dataclass
class Plain:
    """The same rules for one key, in words of Python."""

    phase: str = "none"
    incident: int = 0
    about: int = 0
    about_ms: int = 0
    events: int = 0
    normal: int = 0
    alerted_ms: int = 0
    alerted_p: float = 0.0
    due_tick: int | None = None  # when the timer is looked at; the time itself may be later by then
    out: list[tuple[str, int, int, int]] = field(default_factory=list)


def plain(rows: list[tuple[int, int, float]]) -> list[tuple[str, str, int, int, int]]:
    keys: dict[int, Plain] = {}
    out: list[tuple[str, str, int, int, int]] = []
    watermark, started = -1, 0
    for offset, (slot, ts, p) in enumerate(rows):
        watermark = max(watermark, ts)
        tick = watermark // TICK_MS
        started = started or tick
        gone = []
        for other, key in sorted(keys.items()):
            if key.due_tick is not None and tick >= key.due_tick and offset:
                end_ms = key.about_ms + SECTION.resolve_after
                key.due_tick = end_ms // TICK_MS + 1 if watermark <= end_ms else None
                if key.due_tick is not None:
                    continue
                if key.phase == "told":
                    gone.append(("resolved", f"k{other}", offset, key.incident, key.about))
                key.phase = "closed"
        out += sorted(gone)
        key = keys.setdefault(slot, Plain())
        if p >= 1e-3:
            if key.phase in ("told", "quiet"):
                key.normal += 1
                if key.normal == SECTION.resolve_rows:
                    if key.phase == "told":
                        out.append(("resolved", f"k{slot}", offset, key.incident, key.about))
                    key.phase, key.due_tick = "closed", None
            continue
        again = key.phase == "closed" and ts - key.alerted_ms < SECTION.cooldown
        opening = not again and key.phase in ("none", "closed")
        if again:
            key.phase = "quiet"
        if opening:
            key.incident, key.events, key.phase = offset, 0, "told"
        key.events, key.normal, key.about, key.about_ms = key.events + 1, 0, offset, ts
        due_tick = max((ts + SECTION.resolve_after) // TICK_MS, tick) + 1
        key.due_tick = due_tick if key.due_tick is None else min(key.due_tick, due_tick)
        worse = p * SECTION.update_factor <= key.alerted_p and ts - key.alerted_ms >= SECTION.cooldown
        if opening or worse:
            out.append(("opened" if opening else "updated", f"k{slot}", offset, key.incident, offset))
            key.alerted_ms, key.alerted_p, key.phase = ts, p, "told"
    return out


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.one_of(st.integers(0, 3_000), st.integers(0, 70_000)),
            st.sampled_from([FINE, FINE, BAD, WORSE, WORST]),
        ),
        min_size=1,
        max_size=80,
    )
)
def test_the_kernel_agrees_with_the_rules_in_plain_python(steps: list[tuple[int, int, float]]) -> None:
    ts, rows = NOW, []
    for slot, step, p in steps:
        ts += step
        rows.append((slot, ts, p))
    alerts = run([s for s, _, _ in rows], [p for _, _, p in rows], [(t - NOW) / 1_000 for _, t, _ in rows])
    got = [(phase, key, offset, incident, about) for _, phase, key, offset, incident, about in told(alerts)]
    assert sorted(got, key=lambda a: a[2]) == got  # the log's order
    assert sorted(got) == sorted(plain(rows))
