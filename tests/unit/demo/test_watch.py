"""What is known of a running demo."""

from __future__ import annotations

import pytest

from stream_ad.demo.watch import Watch


def test_episodes_and_alerts_belong_to_the_model_that_judged(watch: Watch) -> None:
    assert len(watch.alerts) == 3  # the repeated one counts once
    before, after = watch.quality(trained=False), watch.quality(trained=True)
    assert (before.incidents, before.true, before.injected, before.found) == (1, 1, 1, 1)
    assert (after.incidents, after.true, after.injected, after.found) == (2, 1, 1, 1)
    assert before.latency_p50_ms == pytest.approx(540.0)  # read at 1640, sent at 1100
    assert watch.base_rate() == pytest.approx(0.02)
    assert watch.model == "v1"
