"""The owner of a pipeline changes its configuration: it starts again, whatever judged before."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import orjson

from stream_ad.config import Kafka
from stream_ad.io.kafka.admin import committed_offsets, create_topics
from tests.support.pipelines import Program, ids, published
from tests.support.waiting import WAIT_S

KEYS, ROWS, PARTITIONS = 6, 150, 2
START_MS, STEP_MS = 1_780_000_000_000, 10_000
CONFIGURATION = """
pipeline = "{name}"
kafka.brokers = "{brokers}"
source.topic = "{name}"
server.port = 0
redis.url = "{redis}"
record.key = "key"
record.timestamp = "timestamp"
record.timestamp_format = "ms"
window.rows = 8
features.event = []
features.numeric.a = ["zscore"]
features.numeric.b = ["zscore"]
threshold.half_life_rows = 200
incidents.cooldown = "10m"
train.auto = false
train.scorer = "mahalanobis"
"""
CHANGES = [  # each on top of those before it: what goes, what comes, what the log says of it
    ('features.numeric.a = ["zscore"]', 'features.numeric.a = ["zscore", "zscore_diff"]', "features.numeric.a was"),
    ('features.numeric.b = ["zscore"]\n', "", "features.numeric.b was"),
    ("threshold.half_life_rows = 200", "threshold.half_life_rows = 90", "threshold.half_life_rows was 200.0 and is 90"),
    ('incidents.cooldown = "10m"', 'incidents.cooldown = "30s"', "incidents.cooldown was 600000 and is 30000"),
]


def stretch(number: int, target: Path) -> Path:
    """Calm records, with a spike of each key near the end."""
    noise = np.random.default_rng(number)
    with target.open("wb") as file:
        for row in range(ROWS):
            for key in range(KEYS):
                a, b = (100 + noise.normal(size=2)).tolist()
                at = START_MS + (number * ROWS + row) * STEP_MS
                a += 60 * (row == ROWS - 20 + key)
                file.write(orjson.dumps({"key": f"k{key}", "timestamp": at, "a": a, "b": b}) + b"\n")
    return target


def run(program: Program) -> str:
    """What a run to the end of the topic says."""
    done = subprocess.run(program.command("run", "--until-end"), capture_output=True, text=True, timeout=WAIT_S)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def new(alerts: list[bytes], begin: Mapping[int, int | None]) -> list[bytes]:
    """Those that a record from `begin` (partition -> offset) on caused."""
    places = [(alert, orjson.loads(alert)["id"].split("/")) for alert in alerts]
    return sorted(alert for alert, (_, part, offset, *_) in places if int(offset) >= (begin[int(part)] or 0))


def test_after_any_change_it_starts_and_tells_what_a_replay_tells(
    kafka: str, redis_url: str, name: str, tmp_path: Path
) -> None:
    create_topics(Kafka(brokers=kafka), {name: PARTITIONS})
    program = Program(tmp_path / "stream_ad.toml", name, kafka)
    text = CONFIGURATION.format(name=name, brokers=kafka, redis=redis_url)
    program.config.write_text(text)
    program("produce", "--input", str(stretch(0, tmp_path / "0.jsonl")), "--topic", name)
    program("train", "--promote", "--force")
    run(program)
    (model,) = {orjson.loads(alert)["model"] for alert in published(kafka, f"{name}.alerts")}
    for number, (before, after, told) in enumerate(CHANGES, 1):
        assert before in text
        text = text.replace(before, after)
        program.config.write_text(text)
        begin = committed_offsets(Kafka(brokers=kafka), name, name)
        program("produce", "--input", str(stretch(number, tmp_path / f"{number}.jsonl")), "--topic", name)
        checked = program("check")
        assert told in checked
        assert "folds" in checked
        assert f"{model}: made for other features" in checked
        said = run(program)
        assert told in said
        assert f"{model}: made for other features" in said
        alerts = published(kafka, f"{name}.alerts")
        assert len(set(ids(alerts))) == len(alerts)
        due = new(alerts, begin)
        assert {orjson.loads(alert)["model"] for alert in due} == {"statistical"}
        replayed = tmp_path / f"{number}.alerts"
        program("replay", "--input", name, "--alerts", str(replayed))
        assert new(replayed.read_bytes().splitlines(), begin) == due, after
    program("train", "--promote", "--force")
    begin = committed_offsets(Kafka(brokers=kafka), name, name)
    program("produce", "--input", str(stretch(len(CHANGES) + 1, tmp_path / "last.jsonl")), "--topic", name)
    assert "another configuration" not in run(program)
    (another,) = {orjson.loads(alert)["model"] for alert in new(published(kafka, f"{name}.alerts"), begin)}
    assert another not in (model, "statistical")
