"""`produce`, `init` and `alerts` against a real broker."""

from __future__ import annotations

import signal
import subprocess
import sys
import tomllib
import uuid
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import orjson
import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner

from stream_ad.cli.commands import app
from stream_ad.config import Config, Kafka, load, parse
from stream_ad.errors import ConfigError, InputError
from stream_ad.io.files import FileSource
from stream_ad.io.kafka import read as kafka_read
from stream_ad.io.kafka.admin import create_topics
from stream_ad.io.partition import partition_of
from stream_ad.io.seeks import FromTheStart
from tests.support.servers import kafka_broker
from tests.support.waiting import WAIT_S, until

RUN = uuid.uuid4().hex[:8]  # a broker that is given may have seen an earlier run


@pytest.fixture(scope="module")
def brokers() -> Iterator[str]:
    with kafka_broker() as found:
        yield found


@pytest.fixture
def folder(tmp_path, brokers, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STREAM_AD__KAFKA__BROKERS", brokers)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def ran(capsys, *arguments: str) -> str:
    capsys.readouterr()
    app([*arguments], standalone_mode=False)
    return capsys.readouterr().out


def process(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "stream_ad", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def cards(count: int) -> bytes:
    lines = [
        orjson.dumps({"card": f"c{i % 17}", "t": 60 * i, "amount": (i * 37 % 101) + 0.5, "shop": f"s{i % 5}"})
        for i in range(count)
    ]
    return b"\n".join([*lines[:50], b"{", b'{"t": 5}', b"\xff", *lines[50:]])


def of_file(path: Path, config: Config, partitions: int) -> dict[int, list]:
    source, found = FileSource(path, config, partitions), defaultdict(list)
    source.open(FromTheStart(source))
    while not source.finished():
        for raw in source.poll(0):
            found[raw.partition] += zip(raw.offset.tolist(), raw.timestamp_ms.tolist(), raw.key, raw.value, strict=True)
    return found


@pytest.mark.parametrize("own_time", [True, False])
def test_a_produced_topic_is_the_file(folder, brokers, capsys, own_time):
    topic = f"file-{own_time}-{RUN}".lower()
    (folder / "cards.jsonl").write_bytes(cards(3000))
    record = '[record]\nkey = "card"\n'
    record += 'timestamp = "$timestamp"\ntimestamp_format = "s"\n' if own_time else 'timestamp = "t"\n'
    (folder / "stream_ad.toml").write_text(record)
    options = ["--timestamp", "t"] if own_time else []
    said = ran(capsys, "produce", "-i", "cards.jsonl", "-t", topic, "--partitions", "3", "--json", *options)
    assert {**orjson.loads(said), "seconds": 0} == {
        "topic": topic, "partitions": 3, "events": 3003, "seconds": 0, "interrupted": False,
    }  # fmt: skip
    there: dict[int, list] = defaultdict(list)
    for message in kafka_read.committed(Kafka(brokers=brokers), topic, "source.topic"):
        there[message.partition()].append((message.offset(), message.timestamp()[1], message.key(), message.value()))
    config = load(folder / "stream_ad.toml")
    if own_time:
        # the field behind $timestamp is called `timestamp` unless it is named, as --timestamp did
        source = FileSource(folder / "cards.jsonl", config, 3, timestamp="t")
        source.open(FromTheStart(source))
        found = {raw.partition: raw.timestamp_ms.tolist() for raw in source.poll(0)}
        told = {part: [row[1] for row in rows] for part, rows in there.items()}
        now = max(max(times) for times in told.values())
        # a record without a time of its own has that of sending
        assert {part: [-1 if ms > now - 3_600_000 else ms for ms in times] for part, times in told.items()} == found
        assert found[0][0] >= 1
    expected = of_file(folder / "cards.jsonl", config, 3)
    assert {part: [(row[0], row[2], row[3]) for row in rows] for part, rows in there.items()} == {
        part: [(row[0], row[2], row[3]) for row in rows] for part, rows in expected.items()
    }
    with pytest.raises(ConfigError, match="has 3 partitions already, not 4"):
        ran(capsys, "produce", "-i", "cards.jsonl", "-t", topic, "--partitions", "4")


def test_keys_lie_where_librdkafka_puts_them(brokers):
    topic = f"keys-{RUN}"
    create_topics(Kafka(brokers=brokers), {topic: 3})
    producer = Producer({"bootstrap.servers": brokers, "partitioner": "murmur2", "enable.idempotence": True})
    for i in range(300):
        producer.produce(topic, b"", b"card-%d" % i)
    assert producer.flush(30) == 0
    there = kafka_read.committed(Kafka(brokers=brokers), topic, "source.topic")
    assert len(there) == 300
    assert [message.partition() for message in there] == [partition_of(message.key(), 0, 3) for message in there]


def test_init_reads_a_topic_and_what_it_writes_reads_it_back(folder, brokers, capsys):
    (folder / "cards.jsonl").write_bytes(cards(4000))
    ran(capsys, "produce", "-i", "cards.jsonl", "-t", f"init-{RUN}", "--partitions", "2", "--key", "card")
    said = orjson.loads(ran(capsys, "init", "--topic", f"init-{RUN}", "--json"))
    config = load(folder / "stream_ad.toml")
    assert (config.source.topic, config.record.key, config.kafka.brokers) == (f"init-{RUN}", "card", brokers)
    assert config.features.numeric == {"t": ["diff"], "amount": ["zscore"]}
    assert list(config.features.categorical) == ["shop"]
    assert 1500 < said["records"] <= 2000
    with pytest.raises(ConfigError, match="--force"):
        ran(capsys, "init", "--topic", f"init-{RUN}")
    words = ran(capsys, "init", "--topic", f"init-{RUN}", "--force")
    assert "amount (zscore)" in words
    assert "stream-ad run" in words


def test_check_looks_at_records(folder, brokers, redis_url, capsys, monkeypatch):
    """A key that no record has is no matter of the file, and still what a user gets wrong first."""
    monkeypatch.setenv("STREAM_AD__REDIS__URL", redis_url)
    topic = f"looked-{RUN}"
    (folder / "cards.jsonl").write_bytes(cards(400))
    ran(capsys, "produce", "-i", "cards.jsonl", "-t", topic, "--key", "card", "--timestamp", "t")
    ran(capsys, "init", "-t", topic)
    told = orjson.loads(ran(capsys, "check", "--json"))
    assert (told["looked_at"], told["problems"]) == (403, [])
    assert told["would_be_rejected"] == 3
    assert told["first_reason"].startswith("bad_json")
    made = folder / "stream_ad.toml"
    made.write_text(made.read_text().replace('key = "card"', 'key = "cart"'))
    capsys.readouterr()
    assert CliRunner().invoke(app, ["check", "--json"]).exit_code == 4
    found = orjson.loads(CliRunner().invoke(app, ["check", "--json"]).stdout)
    assert len(found["problems"]) == 1
    assert "all 403 records" in found["problems"][0]
    assert "cart" in found["problems"][0]


def test_check_of_a_topic_whose_records_were_all_taken_back(folder, brokers, redis_url, capsys, monkeypatch):
    """Offsets without records, as an aborted transaction leaves them, are nothing to complain of."""
    monkeypatch.setenv("STREAM_AD__REDIS__URL", redis_url)
    topic = f"aborted-{RUN}"
    create_topics(Kafka(brokers=brokers), {topic: 1})
    producer = Producer({"bootstrap.servers": brokers, "transactional.id": topic})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, b"{")
    producer.flush(30)
    producer.abort_transaction(30)
    (folder / "stream_ad.toml").write_text(f'pipeline = "{topic}"\nsource.topic = "{topic}"\nrecord.key = "k"\n')
    told = orjson.loads(ran(capsys, "check", "--json"))
    assert (told["events"], told["looked_at"], told["problems"]) == (2, 0, [])


def test_init_says_what_is_wrong(folder, brokers, capsys):
    create_topics(Kafka(brokers=brokers), {f"empty-{RUN}": 2})
    with pytest.raises(InputError, match="has no records"):
        ran(capsys, "init", "--topic", f"empty-{RUN}")
    with pytest.raises(InputError, match="no topic 'absent'"):
        ran(capsys, "init", "--topic", "absent")
    (folder / "garbage.jsonl").write_bytes(b"hello\n[1]\n")
    with pytest.raises(InputError, match=r"garbage.jsonl: line 1, column 1: .*; one JSON object per line is needed"):
        ran(capsys, "produce", "-i", "garbage.jsonl", "-t", f"garbage-{RUN}")
    create_topics(Kafka(brokers=brokers), {f"garbage-{RUN}": 1})
    producer = Producer({"bootstrap.servers": brokers})
    for value in (b"hello", b"[1]"):
        producer.produce(f"garbage-{RUN}", value)
    assert producer.flush(WAIT_S) == 0
    with pytest.raises(InputError, match="none of 2 records is a JSON object; the first begins with b'hello'"):
        ran(capsys, "init", "--topic", f"garbage-{RUN}")
    with pytest.raises(ConfigError, match="--topic or --input"):
        ran(capsys, "init")
    assert not (folder / "stream_ad.toml").exists()


def test_produce_is_interrupted_cleanly(folder, brokers):
    (folder / "cards.jsonl").write_bytes(cards(4000))
    running = process("produce", "-i", "cards.jsonl", "-t", f"slow-{RUN}", "--key", "card", "--rate", "5", "--json")
    kafka = Kafka(brokers=brokers)

    def begun() -> bool:
        assert running.poll() is None, running.communicate()
        with suppress(InputError):  # the topic is not there yet
            return bool(kafka_read.committed(kafka, f"slow-{RUN}", "source.topic"))
        return False

    until(begun)
    running.send_signal(signal.SIGINT)
    said, complaint = running.communicate(timeout=WAIT_S)
    assert running.returncode == 130, complaint
    told = orjson.loads(said)
    assert told["interrupted"]
    assert 0 < told["events"] < 4003
    assert len(kafka_read.committed(kafka, f"slow-{RUN}", "source.topic")) == told["events"]


def alert(i: int, key: str) -> bytes:
    return orjson.dumps(
        {"id": f"t/0/{i}/score", "key": key, "phase": "opened", "severity": "high",
         "event_time": "2026-01-01T00:00:00.000Z", "summary": f"{key} is anomalous: [amount] {i}."}
    )  # fmt: skip


def test_alerts_shows_what_is_committed_and_follows(folder, brokers, capsys):
    kafka = Kafka(brokers=brokers)
    (folder / "stream_ad.toml").write_text(f'pipeline = "watch-{RUN}"\n')
    with pytest.raises(InputError, match=r"sink\.alerts: no topic 'watch-"):
        ran(capsys, "alerts")
    create_topics(kafka, {f"watch-{RUN}.alerts": 2})
    assert "no alerts" in ran(capsys, "alerts")
    assert ran(capsys, "alerts", "--json") == ""
    producer = Producer({"bootstrap.servers": brokers, "transactional.id": f"watch-{RUN}"})
    producer.init_transactions(30)
    for aborted in (False, True, False):
        producer.begin_transaction()
        for i in range(3):
            value = alert(99, "aborted") if aborted else alert(i, f"k{i}")
            producer.produce(f"watch-{RUN}.alerts", value, b"k", partition=i % 2)
        producer.flush(30)
        producer.abort_transaction(30) if aborted else producer.commit_transaction(30)
    words = ran(capsys, "alerts", "--limit", "0").splitlines()
    assert len(words) == 6
    assert all("is anomalous: [amount]" in line for line in words)
    assert not any("aborted" in line for line in words)
    assert len(ran(capsys, "alerts", "--limit", "2").splitlines()) == 2
    of_one = [orjson.loads(line) for line in ran(capsys, "alerts", "--json", "--key", "k1").splitlines()]
    assert [one["key"] for one in of_one] == ["k1", "k1"]

    running = process("alerts", "--follow", "--json", "--limit", "1")
    assert running.stdout is not None
    assert "score" in running.stdout.readline()
    producer.begin_transaction()
    producer.produce(f"watch-{RUN}.alerts", alert(7, "new"), b"k", partition=1)
    producer.commit_transaction(30)
    assert orjson.loads(running.stdout.readline())["key"] == "new"
    running.send_signal(signal.SIGINT)
    assert running.wait(WAIT_S) == 130


def test_the_last_alerts_are_read_from_the_end_whatever_their_partition(folder, brokers, capsys, monkeypatch):
    kafka, topic = Kafka(brokers=brokers), f"many-{RUN}.alerts"
    (folder / "stream_ad.toml").write_text(f'pipeline = "many-{RUN}"\n')
    create_topics(kafka, {topic: 3})
    producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True})
    for i in range(3000):
        partition = 2 if i > 2900 else i % 2
        producer.produce(topic, alert(i, f"k{i % 7}"), b"k", partition=partition, timestamp=1_780_000_000_000 + i)
    assert producer.flush(30) == 0
    read = []
    stretch = kafka_read._stretch

    def counted(*arguments):
        messages = stretch(*arguments)
        read.append(len(messages))
        return messages

    monkeypatch.setattr(kafka_read, "_stretch", counted)

    def ids(*options: str) -> list[str]:
        return [orjson.loads(line)["id"] for line in ran(capsys, "alerts", "--json", *options).splitlines()]

    assert ids("-n", "150") == [f"t/0/{i}/score" for i in range(2850, 3000)]
    assert sum(read) < 1500, "it need not read all to print the last"
    assert ids("-n", "2", "--key", "k3") == [f"t/0/{i}/score" for i in range(2900, 3000) if i % 7 == 3][-2:]
    assert ids("-n", "0") == [f"t/0/{i}/score" for i in range(3000)]
    assert ids("-n", "9999") == ids("-n", "0")


def test_an_alert_is_opened_with_its_event_and_window(folder, brokers, capsys):
    name = f"open-{RUN}"
    (folder / "stream_ad.toml").write_text(
        f'pipeline = "{name}"\nsource.topic = "{name}"\nsink.redact = ["card"]\n'
        'record = {key = "k", timestamp = "t", timestamp_format = "s"}\n'
        'window.rows = 4\nfeatures.numeric.a = ["zscore"]\n'
    )
    create_topics(Kafka(brokers=brokers), {name: 2, f"{name}.alerts": 1})
    producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True})
    for i in range(40):
        record = {"k": f"k{i % 3}", "t": 1_780_000_000 + i, "a": i, "card": "4111"}
        producer.produce(name, orjson.dumps(record), partition=1)
    told = {**orjson.loads(alert(30, "k0")), "position": {"topic": name, "partition": 1, "offset": 30}}
    told |= {"model": "statistical", "score": 5.5, "threshold": 2.5, "contributors": [
        {"feature": "a.zscore", "field": "a", "observed": 30.0, "low": 1.0, "high": 2.0, "text": "a 30\x1b[2J"}
    ]}  # fmt: skip
    lost = {**told, "id": "lost", "position": {"topic": name, "partition": 0, "offset": 7}}
    for one in (told, lost):
        producer.produce(f"{name}.alerts", orjson.dumps(one))
    assert producer.flush(30) == 0
    found = orjson.loads(ran(capsys, "alerts", "show", "t/0/30/score", "--json"))
    assert found["alert"] == told
    assert found["event"]["record"] == {"k": "k0", "t": 1_780_000_030, "a": 30, "card": "***"}
    assert [one["offset"] for one in found["window"]] == [21, 24, 27]
    words = ran(capsys, "alerts", "show", "t/0/30/score")
    for said in ("statistical", "5.5", "2.5", "a.zscore", "a 30\\x1b[2J", '"a":27'):
        assert said in words
    assert "4111" not in words
    assert "does not hold it any more" in ran(capsys, "alerts", "show", "lost")
    with pytest.raises(InputError, match=r"no alert 'none' in topic open-"):
        ran(capsys, "alerts", "show", "none")


def test_a_missing_broker_is_said(folder):
    (folder / "a.csv").write_text("key,x\na,1\n")
    running = process("produce", "-i", "a.csv", "-t", "t", "--brokers", "127.0.0.1:1")
    _, complaint = running.communicate(timeout=WAIT_S)
    assert running.returncode == 3
    assert complaint.startswith("error: kafka.brokers: no answer from 127.0.0.1:1")


def test_the_proposal_of_a_file_is_a_configuration(folder, capsys):
    (folder / "sensor data.csv").write_text("key,at,level\n" + "".join(f"a,{i},{i % 9}\n" for i in range(300)))
    ran(capsys, "init", "-i", "sensor data.csv", "-o", "made.toml")
    config = parse(tomllib.loads((folder / "made.toml").read_text()))
    assert (config.pipeline, config.source.topic) == ("sensor_data", "sensor_data")
