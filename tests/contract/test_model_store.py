"""The registry of models: versions, wishes, history; in memory and in Redis."""

from __future__ import annotations

import time

import pytest

from stream_ad.config import Redis
from stream_ad.errors import ModelError
from stream_ad.io.memory import MemoryModelStore
from stream_ad.io.redis.stores import RedisModelStore
from stream_ad.protocols import BUILT_IN, ModelInfo, ModelStore, Wish


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> ModelStore:
    if request.param == "memory":
        return MemoryModelStore()
    url, name = request.getfixturevalue("redis_url"), request.getfixturevalue("name")
    return RedisModelStore(Redis(url=url, prefix=name))


def info(version: str, sha256: str = "00") -> ModelInfo:
    return ModelInfo(version, "autoencoder", 1_700_000_000_000, sha256, 3, {"loss": 0.25})


def filled(store: ModelStore) -> ModelStore:
    for version in ("v2", "v10", "v1"):
        store.put(info(version), version.encode())
    return store


def test_empty(store: ModelStore) -> None:
    assert list(store.list()) == []
    assert store.wish() == Wish(None, None)
    assert list(store.history()) == []
    for call in (store.get, store.promote, store.shadow):
        with pytest.raises(ModelError, match=r"no model version 'v1'; there are none yet"):
            call("v1")
    with pytest.raises(ModelError, match="nothing to roll back to"):
        store.rollback()


def test_versions_are_kept_in_the_order_they_came(store: ModelStore) -> None:
    filled(store)
    assert list(store.list()) == [info("v2"), info("v10"), info("v1")]
    assert store.get("v10") == b"v10"
    assert store.wish() == Wish(None, None), "a registered version is not yet wanted"


def test_a_version_is_never_changed(store: ModelStore) -> None:
    filled(store)
    store.put(info("v1"), b"v1")
    with pytest.raises(ModelError, match="v1 exists with other content"):
        store.put(info("v1", sha256="ff"), b"other")
    assert store.get("v1") == b"v1"
    assert len(store.list()) == 3


def test_the_same_content_may_come_again_with_a_signature(store: ModelStore) -> None:
    filled(store)
    store.put(info("v10"), b"v10, signed")
    assert store.get("v10") == b"v10, signed"
    assert [found.version for found in store.list()] == ["v2", "v10", "v1"]


def test_unknown_versions_are_answered_with_those_that_exist(store: ModelStore) -> None:
    filled(store).promote("v1")
    for call in (store.get, store.promote, store.shadow):
        with pytest.raises(ModelError, match=r"no model version 'v3'; there are: v2, v10, v1"):
            call("v3")
    assert store.wish() == Wish("v1", None)


def test_rollback_goes_back_step_by_step(store: ModelStore) -> None:
    filled(store)
    store.promote("v1")
    store.promote("v2")
    store.promote("v2")
    assert store.wish() == Wish("v2", None)
    assert store.rollback() == "v1"
    assert store.wish() == Wish("v1", None)
    store.promote("v10")
    assert store.rollback() == "v1"
    assert store.rollback() == BUILT_IN
    assert store.wish() == Wish(BUILT_IN, None)
    with pytest.raises(ModelError, match="nothing to roll back to"):
        store.rollback()


def test_adopted_is_what_nobody_has_a_wish_against(store: ModelStore) -> None:
    filled(store).adopt("v1")
    assert store.wish() == Wish("v1", None)
    store.adopt("v2")
    assert store.wish() == Wish("v1", None)
    assert store.rollback() == BUILT_IN
    store.adopt("v2")
    assert store.wish() == Wish(BUILT_IN, None), "rolled back is a wish"
    with pytest.raises(ModelError, match="no model version 'v3'"):
        store.adopt("v3")


def test_the_shadow_is_independent_of_the_wanted(store: ModelStore) -> None:
    filled(store)
    store.promote("v1")
    store.shadow("v2")
    assert store.wish() == Wish("v1", "v2")
    store.promote("v10")
    assert store.wish() == Wish("v10", "v2")
    store.shadow(None)
    assert store.wish() == Wish("v10", None)


def test_history_tells_what_changed_when(store: ModelStore) -> None:
    before = int(time.time() * 1000) - 1
    filled(store)
    store.promote("v1")
    store.promote("v1")
    store.shadow("v2")
    store.promote("v2")
    store.rollback()
    store.rollback()
    store.shadow(None)
    store.promote("v10", forced=True)
    told = list(store.history())
    assert [(action, version) for _, action, version in told] == [
        ("promote", "v1"),
        ("shadow", "v2"),
        ("promote", "v2"),
        ("rollback", "v1"),
        ("rollback", BUILT_IN),
        ("shadow", ""),
        ("force", "v10"),
    ]
    times = [ms for ms, _, _ in told]
    assert times == sorted(times)
    assert before <= times[0] <= times[-1] <= int(time.time() * 1000) + 1
