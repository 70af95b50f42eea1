"""Saving is a compare-and-set: the laws of the in-memory store and of Redis, against a model."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream_ad.config import Redis
from stream_ad.errors import ConfigError, ConnectionFailed, StateError
from stream_ad.io.memory import MemoryStateStore
from stream_ad.io.redis.stores import RedisStateStore
from stream_ad.protocols import StateStore
from tests.support.servers import RedisServer

STEP = st.one_of(
    st.tuples(st.just("claim"), st.integers(0, 1), st.just(0), st.just(0), st.just(b"")),
    st.tuples(
        st.just("save"), st.integers(0, 1), st.integers(0, 3), st.integers(0, 5), st.binary(max_size=20)
    ),  # owner = one of the latest claims, the latest first
)


@pytest.fixture(params=["memory", "redis"])
def make(request: pytest.FixtureRequest) -> Callable[[], StateStore]:
    if request.param == "memory":
        return MemoryStateStore
    url = request.getfixturevalue("redis_url")
    return lambda: RedisStateStore(Redis(url=url, prefix=f"t-{uuid.uuid4().hex}"))


def loaded(store: StateStore, partition: int) -> list[bytes] | None:
    parts = store.load(partition)
    return None if parts is None else list(parts)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=st.lists(STEP, max_size=25))
def test_only_the_latest_owner_saves_and_offsets_never_fall(
    make: Callable[[], StateStore], steps: list[tuple[str, int, int, int, bytes]]
) -> None:
    store = make()
    claims: dict[int, list[int]] = {0: [], 1: []}
    saved: dict[int, tuple[int, bytes]] = {}
    for what, part, back, offset, blob in steps:
        if what == "claim":
            number = store.claim(part)
            assert all(number > earlier for earlier in claims[part])
            claims[part].append(number)
        elif len(claims[part]) > back:
            allowed = back == 0 and offset >= saved.get(part, (-1, b""))[0]
            assert store.save(part, claims[part][-1 - back], offset, [blob, b"", blob[:3]]) is allowed
            if allowed:
                saved[part] = (offset, blob)
        for each in (0, 1):
            assert store.offset(each) == (saved[each][0] if each in saved else -1)
            assert loaded(store, each) == ([saved[each][1], b"", saved[each][1][:3]] if each in saved else None)


def test_parts_leave_nothing_behind_and_are_one_snapshot(redis_url: str, name: str) -> None:
    store = RedisStateStore(Redis(url=redis_url, prefix=name))
    owner = store.claim(0)
    many, few = [bytes([number]) * 1000 for number in range(11)], [b"few"]
    assert store.save(0, owner, 1, many)
    assert loaded(store, 0) == many
    client = redis.Redis.from_url(redis_url)
    assert len(client.keys(f"{name}:*")) == 1 + 11
    assert all(client.ttl(key) == -1 for key in client.keys(f"{name}:*"))
    assert not store.save(0, owner, 0, many)
    assert loaded(store, 0) == many
    reading = store.load(0)
    assert reading is not None
    assert next(reading) == many[0]
    assert store.save(0, owner, 2, few)
    with pytest.raises(ConnectionFailed, match="another snapshot replaced"):
        list(reading)
    assert loaded(store, 0) == few
    assert len(client.keys(f"{name}:*")) == 2
    client.delete(next(key for key in client.keys(f"{name}:state:0:*")))
    with pytest.raises(StateError, match="partition 0: parts of the snapshot are gone"):
        loaded(store, 0)


def test_a_save_that_ends_half_way_changes_nothing(redis_url: str, name: str) -> None:
    store = RedisStateStore(Redis(url=redis_url, prefix=name))
    owner = store.claim(0)
    assert store.save(0, owner, 1, [b"before"])

    def ending() -> Iterator[bytes]:
        yield b"half"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.save(0, owner, 2, ending())
    assert (store.offset(0), loaded(store, 0)) == (1, [b"before"])
    client = redis.Redis.from_url(redis_url)
    assert sorted(client.ttl(key) > 0 for key in client.keys(f"{name}:state:0:*")) == [False, True], "it will expire"


def test_an_emptied_redis_gives_no_number_twice(redis_url: str, name: str) -> None:
    store = RedisStateStore(Redis(url=redis_url, prefix=name))
    before = store.claim(0)
    redis.Redis.from_url(redis_url).delete(f"{name}:state:0")
    after = store.claim(0)
    assert after > before
    assert not store.save(0, before, 1, [b"zombie"])
    assert store.save(0, after, 1, [b"heir"])


def test_an_owner_survives_an_emptied_redis(redis_url: str, name: str) -> None:
    store = RedisStateStore(Redis(url=redis_url, prefix=name))
    owner = store.claim(0)
    redis.Redis.from_url(redis_url).delete(f"{name}:state:0")
    assert store.load(0) is None
    assert store.save(0, owner, 1, [b"again"])


def test_away_is_said_quickly_without_the_password_and_back_is_back(name: str) -> None:
    server = RedisServer()
    try:
        server.start()
        url = server.url.replace("redis://", "redis://ghost:hunter2@")
        store = RedisStateStore(Redis(url=server.url, prefix=name))
        owner = store.claim(0)
        server.freeze()
        with pytest.raises(ConnectionFailed, match=r"redis\.url: redis://127"):
            store.save(0, owner, 1, [b"x"])
        server.thaw()
        server.kill()
        with pytest.raises(ConnectionFailed, match=r"redis\.url: .*does not answer") as failed:
            RedisStateStore(Redis(url=url, prefix=name)).claim(0)
        assert "hunter2" not in str(failed.value)
        server.start()
        assert store.save(0, owner, 2, [b"y"])
        with pytest.raises(ConnectionFailed, match=r"redis\.url: .*refuses") as failed:
            RedisStateStore(Redis(url=url, prefix=name)).claim(0)
        assert "hunter2" not in str(failed.value)
    finally:
        server.remove()


def test_a_url_that_is_none_names_its_key() -> None:
    with pytest.raises(ConfigError, match=r"redis\.url: "):
        RedisStateStore(Redis(url="http://u:hunter2@localhost"))
