"""Restoring and saving in other threads: which partitions wait for what, and which do not."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from stream_ad import build, config, metrics
from stream_ad.checkpoint.assignment import Assignment, State
from stream_ad.checkpoint.restore import TOGETHER_EVENTS, Recovery
from stream_ad.checkpoint.save import AWAY_S, Saver
from stream_ad.checkpoint.throughput import CAREFUL_PER_S, PACE, Pace
from stream_ad.config.features import FeatureSpec
from stream_ad.errors import ConnectionFailed, InputError, StateError
from stream_ad.io.memory import MemoryCluster, MemoryModelLog, MemorySink, MemorySource, MemoryStateStore, Record
from stream_ad.messages.models import encode_swap
from stream_ad.protocols import BUILT_IN, Swap
from stream_ad.runtime.loop import Pipeline
from stream_ad.state import assemble
from tests.support.assignments import judging
from tests.support.clock import Clock
from tests.support.waiting import WAIT_S, until

EVENTS = 400
FIELDS: dict[str, Any] = {
    "source": {"topic": "t"},
    "record": {"key": "k", "timestamp": "t", "timestamp_format": "ms"},
    "window": {"rows": 2, "max_keys": 10},
    "features": {"numeric": {"a": ["raw"]}},
    "sink": {"commit_interval": "1ms"},
}


def configured(**redis: object) -> config.Config:
    return config.parse({**FIELDS, "redis": {"snapshot_interval": "1h", **redis}})


CONFIG = configured()
SPEC = FeatureSpec.of(CONFIG)
FOLDS = assemble.folds(CONFIG, SPEC)
LINES = [orjson.dumps({"k": "x", "t": 1_700_000_000_000 + 1000 * at, "a": at % 7}) for at in range(EVENTS)]
LOG = {part: [Record(None, line) for line in LINES] for part in (0, 1, 2)}


class Store(MemoryStateStore):
    """Holds up what it is asked about partitions in `held`, until they are let go."""

    def __init__(self, held: Iterable[int] = ()) -> None:
        super().__init__()
        self.let_go = {part: threading.Event() for part in held}
        self.asked: list[tuple[str, int]] = []

    def _wait(self, what: str, partition: int) -> None:
        self.asked.append((what, partition))
        if partition in self.let_go:
            assert self.let_go[partition].wait(WAIT_S)

    def offset(self, partition: int) -> int:
        self.asked.append(("offset", partition))
        return super().offset(partition)

    def load(self, partition: int) -> Iterator[bytes] | None:
        self._wait("load", partition)
        return super().load(partition)

    def save(self, partition: int, owner: int, next_offset: int, parts: Iterable[bytes]) -> bool:
        self._wait("save", partition)
        return super().save(partition, owner, next_offset, parts)


@dataclass
class Run:
    """A pipeline at work in a thread; its source never ends by itself."""

    cluster: MemoryCluster = field(default_factory=MemoryCluster)
    store: Store = field(default_factory=Store)
    conf: config.Config = CONFIG
    log: Any = None
    error: BaseException | None = None

    def __enter__(self) -> Run:
        self.source = MemorySource("t", LOG, self.cluster, poll_rows=20)
        self.source.finished = lambda: False  # type: ignore[method-assign]
        self.source.rebalance([0])
        self.held = build.models(self.conf, SPEC, None, MemoryModelLog(self.cluster))
        log = self.log or MemoryModelLog(self.cluster)
        ports = build.Ports(self.source, MemorySink(self.cluster), self.store, log)
        self.pipeline: Pipeline = build.pipeline(self.conf, SPEC, FOLDS, ports, self.held)
        assemble.warm(self.conf, SPEC)  # nobody waits for what is compiled
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        return self

    def _run(self) -> None:
        try:
            self.pipeline.run(self.stop.is_set)
        except BaseException as error:
            self.error = error

    def __exit__(self, *_: object) -> None:
        for event in self.store.let_go.values():
            event.set()
        self.stop.set()
        self.thread.join(WAIT_S)
        assert not self.thread.is_alive()
        self.held.close()

    def committed(self, partition: int) -> int:
        return self.cluster.offsets.get(partition, 0)


def test_other_partitions_are_judged_while_one_is_restored() -> None:
    cluster = MemoryCluster(offsets={1: 100})
    with Run(cluster, Store(held=[1])) as run:
        run.source.rebalance([0, 1])
        until(lambda: ("load", 1) in run.store.asked)
        until(lambda: run.committed(0) == EVENTS)
        assert run.committed(1) == 100
        assert run.pipeline.status()["restoring"] == [1]
        assert not run.pipeline.status()["ready"]
        run.source.rebalance([0, 1, 2])  # behind it in the queue; the first is not held up by that either
        run.store.let_go[1].set()
        until(lambda: run.committed(1) == run.committed(2) == EVENTS)
        assert run.pipeline.status()["restoring"] == []
    assert run.error is None


def test_a_partition_that_is_given_up_while_it_is_restored_is_dropped() -> None:
    cluster = MemoryCluster(offsets={1: 100})
    with Run(cluster, Store(held=[1])) as run:
        run.source.rebalance([0, 1])
        until(lambda: ("load", 1) in run.store.asked)
        run.source.rebalance([0])
        until(lambda: run.pipeline.status()["restoring"] == [])
        run.store.let_go[1].set()
        until(lambda: run.committed(0) == EVENTS)
        assert run.pipeline.status()["partitions"] == [0]
        run.source.rebalance([0, 1])
        until(lambda: run.committed(1) == EVENTS)
    assert run.error is None


def test_other_partitions_are_judged_while_one_that_is_given_up_is_saved() -> None:
    with Run(store=Store(held=[0])) as run:
        until(lambda: run.committed(0) == EVENTS)
        run.source.rebalance([1])
        until(lambda: ("save", 0) in run.store.asked)
        until(lambda: run.committed(1) == EVENTS)
        assert run.store.offset(0) == -1
        run.store.let_go[0].set()
        until(lambda: run.store.offset(0) == EVENTS)
    assert run.error is None
    assert run.store.offset(1) == EVENTS, "all is saved at the end"


@pytest.mark.parametrize("kind", [InputError, ConnectionFailed, ZeroDivisionError])
def test_what_restoring_raises_ends_the_run(kind: type[Exception]) -> None:
    class Log(MemoryModelLog):
        def swaps(self, partitions: Sequence[int]) -> Any:
            raise kind("as told")

    with Run(log=Log()) as run:
        until(lambda: run.error is not None)
    assert isinstance(run.error, kind)


def test_a_snapshot_is_made_after_so_many_events_whatever_the_time() -> None:
    with Run(conf=configured(snapshot_events=50)) as run:
        until(lambda: run.store.offset(0) >= 50)
        assert run.store.asked.count(("save", 0)) >= 1
    most = max(1, EVENTS // 50) + 1
    assert run.store.asked.count(("save", 0)) <= most, "not after every batch"


def test_one_snapshot_of_a_partition_is_sent_at_a_time_and_what_came_since_follows() -> None:
    with Run(store=Store(held=[0]), conf=configured(snapshot_interval="1ms")) as run:
        until(lambda: ("save", 0) in run.store.asked)
        until(lambda: run.committed(0) == EVENTS)
        assert run.store.asked.count(("save", 0)) == 1
        run.store.let_go[0].set()
        until(lambda: run.store.offset(0) == EVENTS)


def test_a_replay_is_foretold_and_counted_down(caplog: pytest.LogCaptureFixture) -> None:
    cluster = MemoryCluster(offsets={0: 300})
    cluster.published["models"].append(encode_swap(Swap(0, 0, BUILT_IN)))
    with caplog.at_level(logging.INFO), Run(cluster) as run:
        until(lambda: run.committed(0) == EVENTS)
    told = [record.getMessage() for record in caplog.records if "silently" in record.getMessage()]
    assert len(told) == 1
    assert told[0].startswith("partition 0: folds 300 events again, silently; about ")
    assert told[0].endswith(" events/s, which all partitions share")
    assert replay_events(0) == 0


def replay_events(partition: int) -> float:
    return {
        sample.labels["partition"]: sample.value for family in metrics.REPLAY.collect() for sample in family.samples
    }[str(partition)]


class Fit:
    """All models but those `without`."""

    def __init__(self, *without: str) -> None:
        self.without = without

    def has(self, version: str) -> bool:
        return version not in self.without

    def standing(self, version: str) -> str:
        return version if self.has(version) else BUILT_IN


class Log:
    """Every partition but 3 was judged by `version` from its beginning on."""

    def __init__(self, version: str = BUILT_IN) -> None:
        self.version = version

    def swaps(self, partitions: Sequence[int]) -> dict[int, Any]:
        return {part: [Swap(part, 0, self.version)] for part in partitions if part != 3}


def recovery(store: MemoryStateStore, clock: Clock, **redis: object) -> Recovery:
    return Recovery(FOLDS, store, Log(), configured(**redis).redis, clock=clock)  # type: ignore[arg-type]


def begin(made: Recovery, offsets: Mapping[int, int | None]) -> list[Assignment]:
    new = [Assignment(partition) for partition in sorted(offsets)]
    made.begin(new, lambda _: offsets, BUILT_IN, Fit())
    return new


def restored(made: Recovery) -> bool:
    return all(future.done() for future in made._restoring.values())


def asked_often(store: Store, partition: int) -> None:
    """Waits until the store was asked for the partition's offset a few times more."""
    before = store.asked.count(("offset", partition))
    until(lambda: store.asked.count(("offset", partition)) > before + 2)


def test_long_replays_come_one_after_the_other_and_the_others_at_once() -> None:
    clock = Clock()
    made = recovery(MemoryStateStore(), clock)
    long = 2 * TOGETHER_EVENTS
    ours = begin(made, {0: long, 1: long + 1, 2: 5, 3: None})
    until(lambda: restored(made), lambda: clock.pass_by(0.1))
    assert sorted(one.partition for one in made.begun(ours)) == [0, 2, 3]
    assert replay_events(0) == long
    assert [one.state for one in ours] == [State.REPLAYING, State.READY, State.REPLAYING, State.JUDGING]
    assert made.begun(ours) == []
    ours[0].judged(long)
    assert [one.partition for one in made.begun(ours)] == [1]
    assert [one.state for one in ours] == [State.JUDGING, State.REPLAYING, State.REPLAYING, State.JUDGING]
    made.close()


def test_the_former_owner_is_waited_for_but_not_longer_than_folding_takes() -> None:
    store = Store()
    saver = Saver(store, CONFIG.redis)
    long = 10 * CAREFUL_PER_S  # ten seconds of folding
    former, ours = judging(FOLDS, 0, long), Assignment(0)
    former.hand_over()
    clock = Clock()
    made = recovery(store, clock)
    made.begin([ours], lambda _: {0: long}, BUILT_IN, Fit())
    asked_often(store, 0)
    assert not restored(made)
    saver.hand_over(former)
    until(lambda: made.begun([ours]))
    assert (ours.state, ours.shard.next_offset) == (State.JUDGING, long)
    (late,) = begin(made, {0: long + CAREFUL_PER_S // 100})
    asked_often(store, 0)
    assert not restored(made)
    clock.pass_by(0.01 * CAREFUL_PER_S / (PACE.per_s or CAREFUL_PER_S))
    until(lambda: made.begun([late]))
    assert late.to_replay == CAREFUL_PER_S // 100
    made.close()
    saver.close()


def saved(offset: int) -> Store:
    """A store that holds a snapshot of partition 0."""
    store = Store()
    saver = Saver(store, CONFIG.redis)
    saver.finish([judging(FOLDS, 0, offset)])
    saver.close()
    return store


@pytest.mark.parametrize("early", [None, 100])
def test_offsets_that_fall_behind_a_snapshot_are_asked_for_again(early: int | None) -> None:
    """By a coordinator that does not know everything yet."""
    answers = iter([early, early, 300])
    made = recovery(saved(300), Clock())
    ours = Assignment(0)
    made.begin([ours], lambda _: {0: next(answers)}, BUILT_IN, Fit())
    until(lambda: made.begun([ours]))
    assert (ours.state, ours.shard.next_offset) == (State.JUDGING, 300)
    made.close()


def test_a_group_that_was_reset_is_believed_after_a_while(caplog: pytest.LogCaptureFixture) -> None:
    store, clock = saved(300), Clock()
    made = recovery(store, clock, wait="600ms")
    (ours,) = begin(made, {0: 100})
    asked_often(store, 0)
    clock.pass_by(0.5)
    asked_often(store, 0)
    assert not restored(made)
    clock.pass_by(0.2)
    until(lambda: made.begun([ours]))
    assert (ours.state, ours.shard.next_offset, ours.to_replay) == (State.REPLAYING, 0, 100)
    made.close()
    assert "the snapshot is at offset 300, the group at 100 (was it reset?)" in caplog.text


def test_offsets_that_are_gone_are_those_of_the_snapshot(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    made = recovery(saved(300), clock, wait="600ms")
    (ours,) = begin(made, {0: None})
    until(lambda: made.begun([ours]), lambda: clock.pass_by(0.5))
    assert (ours.state, ours.shard.next_offset) == (State.JUDGING, 300)
    made.close()
    assert "its committed offset is gone" in caplog.text


def test_offsets_that_are_gone_without_a_snapshot_end_the_run_with_the_ways_on() -> None:
    made = recovery(Store(), Clock())
    begin(made, {0: None})
    until(lambda: restored(made))
    with pytest.raises(
        StateError, match=r"partition 0: .*no snapshot to go on from; set the group's offset .*another name"
    ):
        made._restoring[0].result()
    made.close()


@pytest.mark.parametrize(("rebuild", "begins"), [("all", 0), ("horizon", 200), ("cold", 300)])
def test_the_built_in_scorer_stands_for_a_model_that_no_longer_fits(rebuild: str, begins: int) -> None:
    made = Recovery(
        FOLDS, Store(), Log("m-1"), configured(rebuild=rebuild, horizon_events=100, wait="0ms").redis, clock=Clock()
    )  # type: ignore[arg-type]
    ours = Assignment(0)
    made.begin([ours], lambda _: {0: 300}, "m-1", Fit("m-1"))
    until(lambda: made.begun([ours]))
    assert (ours.shard.version, ours.shard.next_offset, ours.mute_until) == (BUILT_IN, begins, 300)
    assert ours.announcement == Swap(0, 300, BUILT_IN)
    made.close()


def test_partitions_are_waited_for_together_not_in_turn() -> None:
    """Nobody saves them: all have waited as long as one."""
    store, clock = Store(), Clock()
    made = recovery(store, clock, wait="1s")
    begin(made, dict.fromkeys(range(50), 1000 * CAREFUL_PER_S))
    asked_often(store, 0)
    assert not restored(made)
    clock.pass_by(1.0)
    until(lambda: restored(made))
    made.close()


def test_whoever_commits_takes_a_new_number_when_somebody_else_has_taken_one() -> None:
    """The commit proves ownership, not the number at the store; a lower offset is refused with any number."""
    store = Store()
    saver = Saver(store, CONFIG.redis)
    ours = judging(FOLDS, 0, 5)
    saver.finish([ours])
    store.claim(0)
    ours.judged(6)
    saver.finish([ours])
    assert store.offset(0) == 5
    saver.finish([ours])
    assert store.offset(0) == 5, "not again before there is something new"
    ours.judged(7)
    saver.finish([ours])
    assert store.offset(0) == 7
    saver.close()


def test_a_store_that_is_away_is_asked_again_later_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Away(Store):
        away = True

        def save(self, *arguments: Any) -> bool:
            self.asked.append(("save", arguments[0]))
            if self.away:
                raise ConnectionFailed("away")
            return super().save(*arguments)

    store, clock = Away(), Clock()
    saver = Saver(store, CONFIG.redis, clock=clock)
    ours = [judging(FOLDS, part, 5) for part in range(20)]
    for one in ours:
        saver.save(one)
    saver.finish([])
    assert store.asked == [("save", 0)], "nobody waits for each of them in turn"
    assert [record.getMessage() for record in caplog.records] == ["snapshots wait, scoring goes on: away"]
    assert all(one.unsaved == 5 for one in ours)
    store.away = False
    saver.finish(ours)
    assert store.asked == [("save", 0)], "not so soon"
    clock.pass_by(AWAY_S)
    saver.finish(ours)
    assert [store.offset(part) for part in range(20)] == [5] * 20
    saver.close()


def test_a_pace_is_known_after_enough_events_and_follows_a_change() -> None:
    pace = Pace()
    pace.note(1000, 0.01)
    assert pace.per_s == 0
    for _ in range(20):
        pace.note(10_000, 0.1)
    assert pace.per_s == 100_000
    for _ in range(300):
        pace.note(10_000, 0.2)
    assert 50_000 <= pace.per_s < 60_000
