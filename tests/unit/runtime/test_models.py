"""Where a worker takes a bundle from, and what it does with one that is not what it should be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from stream_ad.errors import ModelError
from stream_ad.io.memory import MemoryCluster, MemoryModelLog, MemoryModelStore
from stream_ad.messages.models import encode_bundle
from stream_ad.runtime.models import Models
from stream_ad.score.bundle import Bundle
from stream_ad.score.engine import Engine
from tests.support.models import CONFIG, SPEC, bundle

GOOD = bundle("autoencoder")
TAMPERED = GOOD.to_bytes()[:-1] + bytes([GOOD.to_bytes()[-1] ^ 1])


@pytest.fixture
def store() -> MemoryModelStore:
    found = MemoryModelStore()
    found.put(GOOD.info(), TAMPERED)
    return found


@pytest.fixture
def engine() -> Iterator[Engine]:
    found = Engine(CONFIG.scoring, SPEC)
    yield found
    found.close()


def log_with(**blobs: bytes) -> MemoryModelLog:
    cluster = MemoryCluster()
    for version, blob in blobs.items():
        cluster.published["bundles"] += encode_bundle(version, blob)
    return MemoryModelLog(cluster)


def test_a_worker_starts_with_the_logs_copy_where_the_registrys_is_tampered_with(
    engine: Engine, store: MemoryModelStore
) -> None:
    held = Models(engine, store, log_with(**{GOOD.version: GOOD.to_bytes()}))
    assert held.load(GOOD.version).version == GOOD.version
    assert held.has(GOOD.version)


def test_without_a_copy_that_can_be_used_it_is_said_what_is_wrong_with_the_registrys(
    engine: Engine, store: MemoryModelStore
) -> None:
    with pytest.raises(ModelError, match="does not fit its sha256"):
        Models(engine, store, log_with()).load(GOOD.version)
    with pytest.raises(ModelError, match="does not fit its sha256"):
        Models(engine, store, log_with(**{GOOD.version: TAMPERED})).load(GOOD.version)


def test_a_bundle_under_another_name_is_not_taken_for_it(engine: Engine) -> None:
    store = MemoryModelStore()
    store.put(replace(GOOD.info(), version="other"), GOOD.to_bytes())
    with pytest.raises(ModelError, match=f"model other: what is stored under this name is {GOOD.version}"):
        Models(engine, store, log_with()).load("other")


def test_what_is_not_in_use_is_forgotten_but_for_the_latest(engine: Engine) -> None:
    store, versions = MemoryModelStore(), []
    for number in range(5):
        each = Bundle.of(replace(GOOD.manifest, source=f"number {number}"), GOOD.tensors)
        store.put(each.info(), each.to_bytes())
        versions.append(each.version)
    held = Models(engine, store, log_with(), spare=1)
    for version in versions:
        held.load(version)
    held.choice.wanted = versions[1]
    held.committed([], [versions[2]])
    held.load(versions[3])
    held.evict({versions[0]})
    assert held.loaded == versions[:4], "in use, wanted, judging, and the one used last"
