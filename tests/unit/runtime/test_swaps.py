"""Promotions in a pipeline at work: what stays loaded, what an older version scores afterwards."""

from __future__ import annotations

import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest

from stream_ad import build, config
from stream_ad.batch import RawBatch
from stream_ad.checkpoint.assignment import Assignment
from stream_ad.config.features import FeatureSpec
from stream_ad.fold import state as columns
from stream_ad.io.memory import (
    MemoryCluster,
    MemoryModelLog,
    MemoryModelStore,
    MemorySink,
    MemorySource,
    MemoryStateStore,
    Record,
)
from stream_ad.jobs import train as training
from stream_ad.messages.models import decode_swap
from stream_ad.protocols import BUILT_IN, Swap
from stream_ad.runtime.models import SPARE, Models
from stream_ad.runtime.registry_follower import RegistryFollower
from stream_ad.runtime.shadow import Shadow
from stream_ad.score.bundle import Bundle
from stream_ad.state import assemble
from tests.support.assignments import judging, ready
from tests.support.waiting import until

PROMOTIONS = 30
ROWS = 20
CONFIG = config.parse(
    {
        "source": {"topic": "t"},
        "record": {"key": "k", "timestamp": "t", "timestamp_format": "ms"},
        "window": {"rows": 2, "max_keys": 50},
        "features": {"numeric": {"a": ["raw"]}},
        "sink": {"commit_interval": "1ms"},
        "train": {"epochs": 1, "hidden": [4, 2], "min_events": 256},
    }
)
SPEC = FeatureSpec.of(CONFIG)
NOISE = np.random.default_rng(5).normal(size=ROWS * (PROMOTIONS + 1))
LOG = {
    0: [
        Record(None, orjson.dumps({"k": f"key-{at % 5}", "t": 1_700_000_000_000 + 1000 * at, "a": value}))
        for at, value in enumerate(NOISE.tolist())
    ]
}


class Promoting(MemorySource):
    """Calls `promote` before each batch but the first."""

    promote: Callable[[], object]
    polls = 0

    def poll(self, timeout_ms: int) -> list[RawBatch]:
        found = super().poll(timeout_ms)
        if found:
            self.polls += 1
            if self.polls > 1:
                self.promote()
        return found


@pytest.fixture(scope="module")
def bundles() -> list[Bundle]:
    first = training.fit(CONFIG, MemorySource("t", LOG), "t")[0]
    return [
        Bundle.of(replace(first.manifest, source=f"number {number}"), first.tensors) for number in range(PROMOTIONS)
    ]


def scored(held: Models, version: str) -> bytes:
    x = np.random.default_rng(1).normal(size=(7, SPEC.rows, len(SPEC.features))).astype(np.float32)
    return held.submit(version, [x]).result()[0].tobytes()


@pytest.fixture
def registry(bundles: list[Bundle]) -> MemoryModelStore:
    found = MemoryModelStore()
    for bundle in bundles:
        training.register(found, bundle)
    return found


def test_thirty_promotions_leave_few_models_loaded_and_the_way_back_open(
    bundles: list[Bundle], registry: MemoryModelStore
) -> None:
    cluster, due = MemoryCluster(), iter(bundles)
    log = MemoryModelLog(cluster)
    held = build.models(CONFIG, SPEC, registry, log)
    source, loaded, first = Promoting("t", LOG, cluster, ROWS), [], []
    ports = build.Ports(source, MemorySink(cluster), MemoryStateStore(), log)
    pipeline = build.pipeline(CONFIG, SPEC, assemble.folds(CONFIG, SPEC), ports, held)
    follower = RegistryFollower(registry, held)

    def promote() -> None:
        """The next, and waits until it judges."""
        version = next(due).version
        registry.promote(version)
        until(lambda: pipeline.assignments[0].shard.version == version)
        first[:] = first or [scored(held, version)]
        loaded.append(len(held.loaded))

    source.promote = promote
    try:
        pipeline.run(lambda: False)
        swaps = [decode_swap(message.value or b"") for message in cluster.published["models"]]
        expected = [BUILT_IN, *(bundle.version for bundle in bundles)]
        assert swaps == [Swap(0, ROWS * number, version) for number, version in enumerate(expected)]
        assert max(loaded) <= 2 + SPARE, "the one that judges, the one that is wanted, and those to spare"
        assert all(log.bundle(bundle.version) == bundle.to_bytes() for bundle in bundles), "each is in the log"
        pipeline.evict()
        assert bundles[0].version not in held.loaded
        assert scored(held, bundles[0].version) == first[0]
        assert bundles[0].version in held.loaded
    finally:
        follower.close()
        held.close()


def test_nothing_is_forgotten_while_a_partition_is_restored(bundles: list[Bundle], registry: MemoryModelStore) -> None:
    cluster = MemoryCluster()
    log = MemoryModelLog(cluster)
    held = build.models(CONFIG, SPEC, registry, log)
    folds = assemble.folds(CONFIG, SPEC)
    ports = build.Ports(MemorySource("t", LOG, cluster), MemorySink(cluster), MemoryStateStore(), log)
    pipeline = build.pipeline(CONFIG, SPEC, folds, ports, held)
    versions = [bundle.version for bundle in bundles[: SPARE + 2]]
    try:
        for version in versions:
            held.load(version)
        pipeline.assignments = {0: judging(folds), 1: Assignment(1)}
        pipeline.evict()
        assert held.loaded == versions
        pipeline.assignments[1] = ready(folds, 1)
        pipeline.assignments[1].shard.version = versions[0]
        pipeline.evict()
        assert held.loaded == [versions[0], *versions[2:]], "what a partition will judge by stays"
    finally:
        held.close()


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells what is resident")
def test_a_swap_that_is_undone_and_a_shadow_leave_free_slots_alone() -> None:
    capacity = 2_000_000
    folds = assemble.folds(CONFIG, SPEC, capacity)
    shard = judging(folds).shard
    reserved = sum(array.nbytes for array in columns.arrays(shard.states.threshold, capacity).values())
    before = resident_bytes()
    thresholds, nothing = shard.thresholds(), np.zeros(0)
    shard.swap("another", nothing, nothing)
    shard.put_back(BUILT_IN, thresholds)
    Shadow(lambda *_: (nothing, nothing), "another").begin(shard)
    assert resident_bytes() - before < reserved / 4
