"""The program stays up while servers are away and threads are stuck, reports it, and stops in time at any moment."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from confluent_kafka import Producer

from stream_ad.io.kafka.source import member_name
from tests.support.living import Living, Process, Servers, servers
from tests.support.waiting import until


@pytest.fixture(scope="module")
def on() -> Iterator[Servers]:
    """Of this module alone: they are killed and frozen."""
    with servers() as made:
        yield made


@pytest.fixture
def living(on: Servers, tmp_path: Path, name: str) -> Living:
    return Living(on, tmp_path, name)


@pytest.fixture
def watched(on: Servers, tmp_path: Path, name: str) -> Living:
    """Where standing still is taken for what it is after a few seconds."""
    return Living(on, tmp_path, name, stalled="2s")


def launcher(living: Living, fault: str) -> tuple[str, ...]:
    return ("-m", "tests.support.sabotage", fault, str(living.folder / "marker"))


@contextmanager
def feeding(living: Living) -> Iterator[None]:
    """A little now and then, and all the rest at the end of the block."""
    done = threading.Event()

    def feed() -> None:
        share = living.share
        while not done.wait(0.2) and share < 0.8:
            share += 0.005
            living.feed(share)

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    living.feed()


# ── partitions that stand still ──────────────────────────────────────────────────────────


def test_a_partition_that_stands_still_is_an_alarm_and_a_new_start(watched: Living) -> None:
    watched.feed(0.2)
    with watched.running(launcher=launcher(watched, "paused")) as process:
        process.until(lambda: process.ready().get("ready"))
        with feeding(watched):
            process.until(lambda: "starts anew from the last commit: partition 1 stands still at" in process.log())
            process.until(lambda: alarms(process))  # again, as that start has not helped
            (watched.folder / "marker").touch()  # the next one will
            process.until(lambda: process.metrics().get("stream_ad_stalled{1}") == 0)
        process.until_judged(watched.events)
        process.stopped(0)
    assert watched.told() == watched.expected()


def alarms(process: Process) -> bool:
    """Wherever somebody may look: of partition 1 alone, after a new start."""
    told = process.ready()
    return (
        told.get("stalled") == [1]
        and told["code"] == 503
        and told["progress"]["1"]["stalled_s"] > 0  # type: ignore[index]
        and process.metrics().get("stream_ad_stalled{1}") == 1
        and process.metrics().get("stream_ad_restarts_total", 0) > 0
    )


def test_a_worker_whose_thread_is_stuck_is_ended_and_started_again(watched: Living) -> None:
    watched.feed()
    with watched.running("--until-end", launcher=launcher(watched, "stuck")) as process:
        process.ended(0)
        assert "ended with 10 (its watchdog" in process.log()
    assert watched.told() == watched.expected()


# ── a machine that runs full ─────────────────────────────────────────────────────────────


def test_before_memory_runs_out_it_commits_says_why_and_is_not_started_again(living: Living) -> None:
    living.feed(0.5)
    with living.running(launcher=launcher(living, "short")) as process:
        process.until_judged(living.fed // 2)
        (living.folder / "marker").touch()
        process.ended(9)
        assert "lower window.max_keys, run fewer workers here, or give more memory" in process.log()
        assert "starts again" not in process.log()
    assert living.committed() == living.fed
    living.feed()
    with living.running("--until-end") as process:
        process.ended(0)
    assert living.told() == living.expected()


# ── servers that are away ────────────────────────────────────────────────────────────────


def test_without_redis_scoring_goes_on_says_so_and_catches_up(on: Servers, living: Living) -> None:
    living.feed(0.2)
    with living.running() as process:
        process.until_judged(living.fed)
        on.redis.freeze()
        try:
            process.until(lambda: process.ready().get("store_away_since"))
            assert process.metrics()["stream_ad_store_up"] == 0
            living.feed(0.6)
            process.until_judged(living.fed)
            process.until(lambda: snapshot_lag(process) > 0)
            assert process.ready()["code"] == 200
        finally:
            on.redis.thaw()
        living.feed(0.8)
        process.until(lambda: process.metrics().get("stream_ad_store_up") == 1)
        process.until(lambda: snapshot_lag(process) == 0 and process.ready()["store_away_since"] is None)
        assert process.log().count("snapshots and new models wait") == 1
        assert process.log().count("Redis answers again") == 1
        on.redis.freeze()
        try:
            process.until(lambda: process.ready().get("store_away_since"))
            living.feed()
            process.until_judged(living.fed)
            process.stopped(0)
        finally:
            on.redis.thaw()
    assert living.told() == living.expected()


def snapshot_lag(process: Process) -> float:
    return sum(seen["snapshot_lag"] for seen in process.ready()["progress"].values())  # type: ignore[attr-defined]


def test_without_brokers_it_waits_says_so_and_resumes(on: Servers, living: Living) -> None:
    living.feed(0.3)
    with living.running() as process:
        process.until_judged(living.fed)
        process.until(lambda: living.committed() == living.fed)
        on.broker.kill()
        process.until(lambda: process.ready().get("brokers_away_since"))
        on.broker.start()
        process.until(lambda: process.ready().get("brokers_away_since") is None)
        living.feed()
        process.until_judged(living.events)
        assert process.metrics()["stream_ad_restarts_total"] == 0
        process.stopped(0)
    assert living.told() == living.expected()


# ── others under our name ────────────────────────────────────────────────────────────────


def test_fenced_once_it_goes_on(living: Living) -> None:
    """As by a late request of its own, of before a cut."""
    living.feed(0.3)
    with living.running() as process:
        process.until_judged(living.fed)
        process.until(lambda: living.committed() == living.fed)
        name = member_name(living.config.pipeline, 0)
        Producer({"bootstrap.servers": living.brokers, "transactional.id": name}).init_transactions(30)
        living.feed()
        process.until(lambda: living.committed() == living.events)
        assert f"another process works as '{name}'" in process.log()
        process.stopped(0)
    assert living.told() == living.expected()


def test_run_twice_on_one_machine_one_of_the_two_ends_and_says_why(living: Living) -> None:
    living.feed(0.1)
    with living.running() as first, living.again().running() as second:
        with feeding(living):
            until(lambda: not (first.alive() and second.alive()))
            ended, other = (second, first) if first.alive() else (first, second)
            ended.ended(3)
            assert "is it run twice? Stop one, and give the other more --workers" in ended.log()
        other.until(lambda: living.committed() == living.events)
        other.stopped(0)
    assert living.told() == living.expected()


# ── the end, at any moment ───────────────────────────────────────────────────────────────


def test_stopped_while_brokers_do_not_answer_it_leaves_what_is_not_committed(
    on: Servers, tmp_path: Path, name: str
) -> None:
    first = Living(on, tmp_path, name, stop="5s")
    first.feed(0.3)
    (tmp_path / "second").mkdir()
    second = Living(on, tmp_path / "second", f"{name}-second", stop="5s")
    with first.running(launcher=launcher(first, "slow")) as process:
        process.until(lambda: first.committed() > 0)
        on.broker.freeze()
        try:
            with second.running() as beginning:
                time.sleep(1.0)  # mostly the one is within a commit, and the other not beyond its first question
                process.signal()
                beginning.signal()
                process.ended(8)
                beginning.ended(0, -signal.SIGTERM)
        finally:
            on.broker.thaw()  # all have ended before
    first.feed()
    with first.running("--until-end") as process:
        process.ended(0)
    assert first.told() == first.expected()


def test_stopped_in_a_muted_replay_and_within_a_rebalance(on: Servers, living: Living) -> None:
    living.feed(0.5)
    with living.running("--until-end") as process:
        process.ended(0)
    redis.Redis.from_url(on.redis.url).flushall()
    with living.running("--workers", "3", launcher=launcher(living, "slow")) as process:
        process.until(lambda: process.ready().get("replaying"))  # the first has some, the others join
        process.stopped(0)
    living.feed()
    with living.running("--until-end") as process:
        process.ended(0)
    assert living.told() == living.expected()


def test_stopped_while_a_model_is_trained_and_at_the_start(living: Living) -> None:
    living.feed()
    text = living.config_file.read_text().replace("auto = false", "auto = true\nmin_events = 256\nepochs = 10000")
    living.config_file.write_text(text)
    with living.running() as process:
        process.until(lambda: len(process.children()) == 2)  # the worker and the trainer
        process.stopped(0)
    for moment_s in (0.5, 1.5):
        with living.running() as process:
            time.sleep(moment_s)
            process.stopped(0, -signal.SIGTERM)
