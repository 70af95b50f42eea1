"""The follower of the registry goes on asking, whatever the answer was."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest

from stream_ad import metrics
from stream_ad.errors import ConnectionFailed
from stream_ad.io.memory import MemoryModelLog, MemoryModelStore
from stream_ad.protocols import BUILT_IN, Wish
from stream_ad.runtime.models import Models
from stream_ad.runtime.registry_follower import REFUSED_S, RegistryFollower
from stream_ad.score.bundle import Bundle
from stream_ad.score.engine import Engine
from tests.support.clock import Clock
from tests.support.models import CONFIG, SPEC, bundle
from tests.support.waiting import until


class Registry(MemoryModelStore):
    """Raises `error` instead of an answer."""

    error: Exception | None = None
    asked = 0  # for a bundle

    def get(self, version: str) -> bytes:
        self.asked += 1
        return super().get(version)

    def wish(self) -> Wish:
        if self.error is not None:
            raise self.error
        return super().wish()


@pytest.fixture
def registry() -> Registry:
    found = Registry()
    found.put(GOOD.info(), GOOD.to_bytes())
    return found


@pytest.fixture
def held(registry: Registry) -> Iterator[Models]:
    engine = Engine(CONFIG.scoring, SPEC)
    yield Models(engine, registry, MemoryModelLog(), spare=0)
    engine.close()


GOOD = bundle("autoencoder")


def errors() -> float:
    return next(iter(metrics.REGISTRY_ERRORS.collect())).samples[0].value


@pytest.mark.parametrize("error", [ZeroDivisionError("odd"), ValueError("odd"), OSError("odd")])
def test_no_exception_ends_it_and_an_unforeseen_one_is_logged_once_and_counted(
    registry: Registry, held: Models, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    registry.error, before = error, errors()
    follower = RegistryFollower(registry, held)
    try:
        until(lambda: errors() >= before + 3)
        registry.error = None
        registry.promote(GOOD.version)
        until(lambda: held.choice.wanted == GOOD.version)
    finally:
        follower.close()
    logged = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.exc_info and record.exc_info[1] for record in logged] == [error]


def test_a_registry_that_is_away_is_said_once_and_so_is_its_return(
    registry: Registry, held: Models, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    registry.error = ConnectionFailed("nobody there")
    follower = RegistryFollower(registry, held)
    try:
        follower.look()
        assert held.choice.store_away
        registry.error = None
        until(lambda: not held.choice.store_away)
    finally:
        follower.close()
    assert [record.getMessage() for record in caplog.records] == [
        "snapshots and new models wait, scoring goes on: nobody there",
        "Redis answers again",
    ]


def test_a_version_that_is_refused_keeps_the_shadow_is_tried_again_later_and_said_once(
    registry: Registry, held: Models, caplog: pytest.LogCaptureFixture
) -> None:
    bad = Bundle.of(replace(GOOD.manifest, source="another"), GOOD.tensors)
    registry.put(bad.info(), GOOD.to_bytes())
    registry.promote(bad.version)
    registry.shadow(GOOD.version)
    clock = Clock()
    follower = RegistryFollower(registry, held, clock)
    try:
        follower.look()
        asked = registry.asked
        follower.look()
        assert registry.asked == asked
        clock.pass_by(REFUSED_S)
        until(lambda: registry.asked > asked)
    finally:
        follower.close()
    (said,) = [record.getMessage() for record in caplog.records]
    assert held.choice.current == BUILT_IN
    assert held.choice.shadow is not None
    assert held.choice.shadow.version == GOOD.version
    assert said.startswith(f"model {bad.version} is refused, {BUILT_IN} goes on: ")


def test_an_emptied_registry_gets_back_what_judges_though_others_were_loaded_since(held: Models) -> None:
    held.load(GOOD.version)
    held.committed([GOOD.version], [GOOD.version])
    held.load(BUILT_IN)
    held.evict({BUILT_IN})
    emptied = Registry()
    follower = RegistryFollower(emptied, held)
    follower.close()
    assert emptied.wish().wanted == GOOD.version
    assert emptied.get(GOOD.version) == GOOD.to_bytes()
