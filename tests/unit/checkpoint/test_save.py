"""A swap that cannot be saved in time does not hold up judging again and again."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import pytest

from stream_ad import config
from stream_ad.checkpoint.save import SWAP_S, SWAP_WAITS_S, Saver
from stream_ad.config.features import FeatureSpec
from stream_ad.io.memory import MemoryStateStore
from stream_ad.state import assemble
from tests.support.assignments import judging
from tests.support.clock import Clock

CONFIG = config.parse({"window": {"rows": 1, "max_keys": 10}, "features": {"event": ["gap"]}})


class Slow(MemoryStateStore):
    """Takes `part_s` for each part."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock, self.part_s = clock, 0.0

    def save(self, partition: int, owner: int, next_offset: int, parts: Iterable[bytes]) -> bool:
        taken = []
        for part in parts:
            taken.append(part)
            self.clock.now_s += self.part_s
        return super().save(partition, owner, next_offset, taken)


def test_a_slow_store_is_given_up_said_and_asked_ever_more_seldom(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    store = Slow(clock)
    saver = Saver(store, CONFIG.redis, clock=clock)
    assignment = judging(assemble.folds(CONFIG, FeatureSpec.of(CONFIG)), next_offset=5)
    store.part_s = SWAP_S + 1
    for attempt in range(12):
        assert saver.may_swap()
        begun = clock.now_s
        with caplog.at_level(logging.WARNING):
            assert not saver.save_swap(assignment)
        assert clock.now_s - begun <= store.part_s, "it does not wait for a second part"
        assert "the former one judges on: redis.url: the store takes longer" in caplog.records[-1].getMessage()
        wait_s = min(SWAP_WAITS_S[0] * 2**attempt, SWAP_WAITS_S[1])
        clock.now_s += wait_s - 0.5
        assert not saver.may_swap()
        clock.now_s += 0.5
    store.part_s = 0.0
    assert saver.save_swap(assignment)
    assert saver.may_swap()
    saver.close()
