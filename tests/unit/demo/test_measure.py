"""Precision, recall and latency against what was injected."""

from __future__ import annotations

import pytest

from stream_ad.demo.measure import matches, measure
from stream_ad.demo.simulate import HOUR_MS, START_MS
from tests.support.demo import episode, heard

TOLERANCE_MS = HOUR_MS


def test_an_alert_is_read_in_event_time() -> None:
    assert heard(5, "a", 3 * HOUR_MS).event_ms == START_MS + 3 * HOUR_MS


def test_true_false_found_and_missed() -> None:
    episodes = [episode(1, "a", 2, 3), episode(2, "b", 2, 3), episode(3, "c", 2, 3, "exfiltration")]
    alerts = [
        heard(10, "a", 2 * HOUR_MS, latency_ms=100.0),  # at the very start
        heard(11, "b", 4 * HOUR_MS, latency_ms=300.0),  # at the very end of the tolerance
        heard(12, "c", 5 * HOUR_MS),  # too late
        heard(13, "a", 1 * HOUR_MS),  # too early
        heard(14, "d", 2 * HOUR_MS),  # nobody did anything to d
    ]
    quality = measure(episodes, alerts, episodes, TOLERANCE_MS)
    assert (quality.incidents, quality.true, quality.injected, quality.found) == (5, 2, 3, 2)
    assert quality.precision == pytest.approx(0.4)
    assert quality.recall == pytest.approx(2 / 3)
    assert [(k.kind, k.injected, k.found) for k in quality.kinds] == [("exfiltration", 1, 0), ("port scan", 2, 2)]
    assert quality.latency_p50_ms == pytest.approx(200.0)


def test_an_update_within_an_episode_finds_it_and_a_resolution_does_not() -> None:
    one = episode(1, "a", 2, 3)
    opened = heard(10, "a", 1 * HOUR_MS)
    resolved = heard(11, "a", 2 * HOUR_MS, id="r", incident=opened.incident, phase="resolved")
    assert matches([one], [opened, resolved], TOLERANCE_MS) == {}
    updated = heard(12, "a", 2 * HOUR_MS, id="u", incident=opened.incident, phase="updated")
    quality = measure([one], [opened, updated], [one], TOLERANCE_MS)
    assert (quality.incidents, quality.true, quality.found) == (1, 1, 1)


def test_an_alert_about_another_models_episode_is_not_false() -> None:
    other = episode(1, "a", 2, 3)
    quality = measure([], [heard(10, "a", 2 * HOUR_MS)], [other], TOLERANCE_MS)
    assert (quality.true, quality.injected, quality.found) == (1, 0, 0)
    assert quality.precision == 1.0
    assert quality.recall is None
