"""Real streams, real servers: the same alerts whatever happens on the way."""

from __future__ import annotations

import csv
import os
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import orjson
import pytest

from tests.support.pipelines import (
    Program,
    clean_lines,
    flags_by_model,
    halves,
    ids,
    kill_worker,
    plain,
    published,
    stretch,
    wait_committed,
    write_config,
)

PARTITIONS = 4
STREAMS = {
    "network": ("net_http.csv.gz", 190_000, 20_000),
    "transactions": ("tx_fdh.csv.gz", 0, 20_000),
    "sensors": ("iot_skab.csv.gz", 0, 12_000),
}
GARBAGE = [b"{", b'{"key": 1', b"\xff\xfe", b"[1,2]", b"null", b'{"timestamp": "never", "key": "k"}']
BURST_ROWS = 500


@dataclass
class Stream:
    """A topic that holds a real stream, a model for it, and the alerts of one undisturbed worker."""

    domain: str
    folder: Path
    brokers: str
    redis: str
    topic: str
    file: Path
    rows: int
    bundle: Path
    version: str
    alerts: list[bytes]

    def program(self, name: str, extra: str = "", topic: str = "") -> Program:
        """A pipeline of its own over the same topic, with the same model."""
        made = write_config(
            self.folder / f"{name}.toml",
            self.domain,
            f"{self.topic}-{name}",
            topic or self.topic,
            self.brokers,
            self.redis,
            extra,
        )
        made("models", "add", str(self.bundle))
        made("models", "promote", self.version, "--force")
        return made

    def told(self, program: Program) -> list[bytes]:
        return published(self.brokers, f"{program.pipeline}.alerts")


def only(*domains: str) -> pytest.MarkDecorator:
    """Where one or two streams have to do, for time."""
    return pytest.mark.parametrize("stream", domains, indirect=True, scope="module")


@pytest.fixture(scope="module", params=list(STREAMS))
def stream(
    request: pytest.FixtureRequest, kafka: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Stream:
    domain = request.param
    source, first_row, rows = STREAMS[domain]
    folder = tmp_path_factory.mktemp(domain)
    file = stretch(source, first_row, rows, folder / f"{domain}.csv")
    topic = f"{domain}-{os.getpid()}"
    first = write_config(folder / "one.toml", domain, f"{topic}-one", topic, kafka, redis_url)
    first("produce", "--input", str(file), "--topic", topic, "--partitions", str(PARTITIONS))
    bundle = folder / "bundle.safetensors"
    version = orjson.loads(first("train", "--output", str(bundle), "--promote", "--force", "--json"))["version"]
    first("run", "--until-end")
    alerts = published(kafka, f"{topic}-one.alerts")
    return Stream(domain, folder, kafka, redis_url, topic, file, rows, bundle, version, alerts)


def test_there_are_alerts_and_each_only_once(stream: Stream) -> None:
    assert stream.alerts
    assert len(set(ids(stream.alerts))) == len(stream.alerts)
    assert {orjson.loads(alert)["model"] for alert in stream.alerts} == {stream.version}


def test_three_workers_give_the_same_alerts(stream: Stream) -> None:
    program = stream.program("three")
    program("run", "--until-end", "--workers", "3")
    assert stream.told(program) == stream.alerts


def test_replay_of_the_topic_and_of_the_file_give_the_same_alerts(stream: Stream) -> None:
    program = stream.program("replay")
    for name, arguments in {
        "topic": ["--input", stream.topic],
        "file": ["--input", str(stream.file), "--partitions", str(PARTITIONS)],
    }.items():
        told, scores = stream.folder / f"{name}.jsonl", stream.folder / f"{name}.csv"
        program("replay", *arguments, "--alerts", str(told), "--scores", str(scores))
        assert sorted(told.read_bytes().splitlines()) == stream.alerts, name
    rows = [sorted((stream.folder / f"{name}.csv").read_bytes().splitlines()) for name in ("topic", "file")]
    assert len(rows[0]) == stream.rows + 1
    assert rows[0] == rows[1]


@only("sensors")
def test_small_batches_give_the_same_alerts(stream: Stream) -> None:
    extra = '\n[scoring]\nbatch_rows = 64\nlatency = "1ms"\n'
    program = stream.program("small", extra)
    program("run", "--until-end")
    assert stream.told(program) == stream.alerts


@only("transactions")
def test_a_budget_is_kept_by_all_partitions_together_and_in_a_replay(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    per_day = 8
    monkeypatch.setenv("STREAM_AD__INCIDENTS__BUDGET", f"{per_day}/day")
    program = stream.program("budget")
    program("run", "--until-end", "--workers", "2")
    told = stream.told(program)
    opened = [orjson.loads(one) for one in told]
    at = sorted(datetime.fromisoformat(one["event_time"]) for one in opened if one["phase"] == "opened")
    free = [one for one in map(orjson.loads, stream.alerts) if one["phase"] == "opened"]
    assert per_day < len(free)
    assert 0 < max(sum(one <= other < one + timedelta(days=1) for other in at) for one in at) <= per_day
    replayed = stream.folder / "budget.jsonl"
    program("replay", "--input", stream.topic, "--alerts", str(replayed))
    assert sorted(replayed.read_bytes().splitlines()) == told


def test_kill_and_restart_change_nothing(stream: Stream) -> None:
    """The topic grows while workers are killed: what the alerts say must not depend on it."""
    topic = f"{stream.topic}-killed"
    program = stream.program("killed", topic=topic)
    with (
        program.feeding(stream.file, topic, PARTITIONS, stream.rows // 10),
        # 8: the end of the last one killed may be the last thing that is seen
        program.running("run", "--workers", "2", codes=(0, 8)) as run,
    ):
        for share in (0.1, 0.4, 0.7):
            wait_committed(stream.brokers, program.pipeline, topic, int(share * stream.rows), run)
            kill_worker(run)
        wait_committed(stream.brokers, program.pipeline, topic, stream.rows, run)
    whole = stream.program("whole", topic=topic)
    whole("run", "--until-end")
    assert stream.told(program) == stream.told(whole)
    assert plain(stream.told(whole), topic) == plain(stream.alerts, stream.topic)


def test_a_promotion_in_the_middle_loses_and_repeats_nothing(stream: Stream) -> None:
    """From the built-in scorer to the trained model while events flow; the log alone tells where."""
    topic = f"{stream.topic}-swapped"
    program = stream.program("swapped", topic=topic)
    program("models", "rollback")
    before, after = halves(stream.file, stream.rows)
    with ExitStack() as stack:
        with program.feeding(before, topic, PARTITIONS, stream.rows // 14):
            run = stack.enter_context(program.running("run"))
            wait_committed(stream.brokers, program.pipeline, topic, stream.rows // 10, run)
            program("models", "promote", stream.version, "--force")
        with program.feeding(after, topic, PARTITIONS, stream.rows // 14):
            wait_committed(stream.brokers, program.pipeline, topic, stream.rows, run)
    alerts = stream.told(program)
    assert len(set(ids(alerts))) == len(alerts)
    replayed = stream.folder / "swapped.jsonl"
    scores = stream.folder / "swapped.csv"
    program("replay", "--input", topic, "--alerts", str(replayed), "--scores", str(scores))
    assert sorted(replayed.read_bytes().splitlines()) == alerts
    flags = flags_by_model(scores)
    assert set(flags) == {"statistical", stream.version}
    judged = flags[stream.version]
    burst, later = judged[:BURST_ROWS], judged[BURST_ROWS:]
    assert sum(burst) / len(burst) <= 3 * sum(later) / len(later) + 0.02


def test_every_malformed_record_is_one_reject(stream: Stream) -> None:
    """Garbage in the file: one reject each, with its reason, and no other score moves."""
    dirty = stream.folder / "dirty.jsonl"
    topic = f"{stream.topic}-dirty"
    program = stream.program("dirty", topic=topic)
    lines = clean_lines(stream.file, 3000)
    every = len(lines) // len(GARBAGE)
    mixed = list(lines)
    for number, garbage in enumerate(GARBAGE):
        mixed.insert(number * (every + 1), garbage)
    dirty.write_bytes(b"\n".join(mixed) + b"\n")
    clean = stream.folder / "clean.jsonl"
    clean.write_bytes(b"\n".join(lines) + b"\n")
    program("produce", "--input", str(dirty), "--topic", topic, "--partitions", "1")
    program("run", "--until-end")
    rejects = published(stream.brokers, f"{program.pipeline}.rejects")
    assert sorted(rejects) == sorted(GARBAGE)
    scores = []
    for name, file in {"dirty": dirty, "clean": clean}.items():
        table = stream.folder / f"{name}-scores.csv"
        program("replay", "--input", str(file), "--scores", str(table))
        scores.append([row["score"] for row in csv.DictReader(table.open())])
    assert scores[0] == scores[1]
