"""A demo that has come to its end."""

from __future__ import annotations

import orjson
import pytest

from stream_ad.demo.feed import Placed
from stream_ad.demo.scenarios import SCENARIOS
from stream_ad.demo.simulate import HOUR_MS
from stream_ad.demo.watch import Watch
from stream_ad.io.embedded import Arrival
from stream_ad.messages.models import encode_swap
from stream_ad.protocols import Swap
from tests.support.demo import SETTINGS, FixedFeed, FixedTail, FixedWorker, body, episode


@pytest.fixture
def watch() -> Watch:
    placed = [Placed(episode(1, "a", 2, 3), 0, 100), Placed(episode(2, "b", 6, 7, "exfiltration"), 0, 500)]
    alerts = [
        body(100, "a", 2 * HOUR_MS),
        body(100, "a", 2 * HOUR_MS),  # delivered twice
        body(500, "b", 6 * HOUR_MS, model="v1"),
        body(600, "c", 6 * HOUR_MS, model="v1", severity="low"),
    ]
    arrivals = [Arrival("al", 0, row, b"", orjson.dumps(one), 1000.0 + 640) for row, one in enumerate(alerts)]
    swap = Arrival("mo", 0, 0, b"", encode_swap(Swap(0, 400, "v1")).value, 0.0)
    made = Watch(
        SCENARIOS["network"], FixedFeed(placed), FixedWorker(), FixedTail([*arrivals, swap]), "al", "mo", SETTINGS
    )  # type: ignore[arg-type]
    made.listen()
    for _ in range(3):
        made.sample()
    made.settle()
    return made
