"""The loop on memory ports: the same alerts however the log is cut, crashed or restored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import orjson
import pytest

from stream_ad import build, config, metrics
from stream_ad.batch import RawBatch
from stream_ad.config.features import FeatureSpec
from stream_ad.errors import TransactionFailed
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
from stream_ad.protocols import Role
from stream_ad.runtime.registry_follower import RegistryFollower
from stream_ad.score.bundle import Bundle
from stream_ad.state import assemble

EVENTS = 3000
CONFIG = config.parse(
    {
        "source": {"topic": "t"},
        "record": {"key": "k", "timestamp": "t", "timestamp_format": "ms"},
        "window": {"rows": 4, "max_keys": 50},
        "features": {"numeric": {"a": ["raw", "zscore"]}},
        "threshold": {"false_alarm_rate": 2e-3},
        "redis": {"snapshot_interval": "1ms"},
        "sink": {"commit_interval": "1ms"},
        "train": {"epochs": 3, "hidden": [8, 4], "min_events": 256},
    }
)
SPEC = FeatureSpec.of(CONFIG)


def records() -> dict[int, list[Record]]:
    noise = np.random.default_rng(3)
    log: dict[int, list[Record]] = {0: [], 1: []}
    for number in range(EVENTS):
        key = int(noise.integers(20))
        value = noise.normal(10 * key, 1) + (60 if number % 400 == 399 else 0)
        line = orjson.dumps({"k": f"key-{key}", "t": 1_700_000_000_000 + 1000 * number, "a": value})
        log[key % 2].append(Record(key=None, value=b"{" if number % 500 == 7 else line))
    return log


LOG = records()


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return training.fit(CONFIG, MemorySource("t", LOG), "t")[0]


class Cluster:
    """One pipeline's servers, in memory, over several lives of its worker."""

    def __init__(self, bundle: Bundle) -> None:
        self.kafka = MemoryCluster()
        self.states, self.registry = MemoryStateStore(), MemoryModelStore()
        training.register(self.registry, bundle)
        self.registry.promote(bundle.version)

    def life(
        self,
        poll_rows: int = 1000,
        wrap: Callable[[MemorySink], object] | None = None,
        kind: type[MemorySource] = MemorySource,
    ) -> None:
        log = MemoryModelLog(self.kafka)
        held = build.models(CONFIG, SPEC, self.registry, log)
        follower = RegistryFollower(self.registry, held)
        sink = MemorySink(self.kafka)
        if wrap is not None:
            wrap(sink)
        source = kind("t", LOG, self.kafka, poll_rows)
        ports = build.Ports(source, sink, self.states, log)
        try:
            build.pipeline(CONFIG, SPEC, assemble.folds(CONFIG, SPEC), ports, held).run(lambda: False)
        finally:
            follower.close()
            held.close()

    def told(self, role: Role) -> list[bytes]:
        return sorted(message.value or b"" for message in self.kafka.published[role])


@pytest.fixture(scope="module")
def golden(bundle: Bundle) -> Cluster:
    cluster = Cluster(bundle)
    cluster.life()
    assert cluster.told("alerts")
    return cluster


def dying(events: int) -> Callable[[MemorySink], object]:
    """Makes the commit that would bring the log to so many events fail, as a broker would."""

    def wrap(sink: MemorySink) -> None:
        before, reached = sink.commit, {}

        def commit(offsets: dict[int, int]) -> None:
            reached.update(offsets)
            if sum(reached.values()) >= events:
                raise TransactionFailed("as told")
            before(offsets)

        sink.commit = commit  # type: ignore[assignment, method-assign]

    return wrap


def test_every_malformed_record_is_a_reject(golden: Cluster) -> None:
    assert len(golden.told("rejects")) == sum(value.value == b"{" for log in LOG.values() for value in log)


def test_rejects_are_told_without_what_they_held(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log = {0: [Record(key=None, value=b'{"k":"x","t":1700000000000,"a":"hunter2"}')] * 500, 1: []}
    monkeypatch.setitem(globals(), "LOG", log)
    Cluster(bundle).life(poll_rows=50)
    told = [record.getMessage() for record in caplog.records if "rejected" in record.getMessage()]
    assert told[0] == "50 records rejected so far, the latest at t/0/49: bad_number: a"
    assert not any("hunter2" in line for line in told)


@pytest.mark.parametrize("poll_rows", [7, 100])
def test_poll_size_changes_nothing(bundle: Bundle, golden: Cluster, poll_rows: int) -> None:
    cluster = Cluster(bundle)
    cluster.life(poll_rows)
    for role in ("alerts", "rejects"):
        assert cluster.told(role) == golden.told(role)


@pytest.mark.parametrize("keep_state", [True, False])
@pytest.mark.parametrize("events", [1, EVENTS // 2, EVENTS])
def test_a_failed_commit_changes_nothing(bundle: Bundle, golden: Cluster, events: int, keep_state: bool) -> None:
    """Not even when the snapshots are lost as well: then the whole log is folded again, silently."""
    cluster = Cluster(bundle)
    with pytest.raises(TransactionFailed):
        cluster.life(20, dying(events))
    if not keep_state:
        cluster.states = MemoryStateStore()
    cluster.life(50)
    for role in ("alerts", "rejects"):
        assert cluster.told(role) == golden.told(role)


class GoesBack(MemorySource):
    """Gives some records again, once."""

    polls = 0

    def poll(self, timeout_ms: int) -> list[RawBatch]:
        found = super().poll(timeout_ms)
        self.polls += 1
        if self.polls == 5:
            self._next[0] -= 30
        return found


def test_what_a_source_gives_again_is_not_folded_again(bundle: Bundle, golden: Cluster) -> None:
    cluster = Cluster(bundle)
    with pytest.raises(TransactionFailed, match=r"partition 0: the source goes back to offset \d+"):
        cluster.life(50, kind=GoesBack)
    cluster.life(50)
    for role in ("alerts", "rejects"):
        assert cluster.told(role) == golden.told(role)


def test_a_group_that_began_late_is_rebuilt_from_where_it_began(bundle: Bundle) -> None:
    began = dict.fromkeys(LOG, EVENTS // 8)
    whole, broken = Cluster(bundle), Cluster(bundle)
    whole.kafka.offsets.update(began)
    broken.kafka.offsets.update(began)
    whole.life(50)
    with pytest.raises(TransactionFailed):
        broken.life(20, dying(EVENTS // 2))
    broken.states = MemoryStateStore()
    broken.life(50)
    assert whole.told("alerts")
    assert broken.told("alerts") == whole.told("alerts")


def test_a_shadow_is_compared_and_has_no_say(bundle: Bundle, golden: Cluster) -> None:
    cluster = Cluster(bundle)
    other = Bundle.of(replace(bundle.manifest, source="another"), bundle.tensors)
    training.register(cluster.registry, other)
    cluster.registry.shadow(other.version)
    cluster.life()
    counted = {
        sample.labels["flagged_by"]: sample.value
        for sample in next(iter(metrics.SHADOW.collect())).samples
        if sample.name.endswith("_total") and sample.labels["version"] == other.version
    }
    assert sum(counted.values()) == EVENTS - len(golden.told("rejects"))
    assert counted["both"] > 0
    assert counted["live_only"] == counted["shadow_only"] == 0
    assert cluster.told("alerts") == golden.told("alerts")
