"""What the demo's worker runs with is what `stream-ad init` writes."""

from __future__ import annotations

import itertools
import tomllib
from pathlib import Path
from typing import Any

import orjson
import pytest

from stream_ad.config import Config, load, parse
from stream_ad.config.features import FeatureSpec
from stream_ad.demo.scenarios import SCENARIOS
from stream_ad.demo.settings import environment, needed
from stream_ad.demo.simulate import Scenario, SimRecord, simulate
from stream_ad.io.partition import partition_of
from stream_ad.propose.infer import Sample, infer
from stream_ad.propose.presets import PRESETS
from stream_ad.propose.toml import toml_of

PARTITIONS, STRETCHES, RECORDS = 4, 4, 125  # of the embedded broker's topic, and of what `init` reads of it
BESIDE = needed("127.0.0.1:1", "redis://127.0.0.1:2/0", 3, 4000)


@pytest.fixture(scope="module", params=sorted(SCENARIOS))
def scenario(request: pytest.FixtureRequest) -> Scenario:
    return SCENARIOS[request.param]


@pytest.fixture(scope="module")
def records(scenario: Scenario) -> list[SimRecord]:
    return list(itertools.islice(simulate(scenario, 0, 80_000), 80_000))


@pytest.fixture(scope="module")
def written(scenario: Scenario, records: list[SimRecord]) -> str:
    keys, values, partitions = [], [], []
    for partition in range(PARTITIONS):
        log = [record for record in records if partition_of(record.key, 0, PARTITIONS) == partition]
        for stretch in range(STRETCHES):
            for record in log[len(log) * stretch // STRETCHES :][:RECORDS]:
                keys.append(record.key)
                values.append(record.value)
                partitions.append(partition)
    proposal = infer(Sample(keys, values, partitions), PRESETS[scenario.name])
    assert proposal.undecided == []
    return toml_of(proposal, scenario.name, scenario.name, "127.0.0.1:1", "a test")


def test_a_record_is_what_the_configuration_says(scenario: Scenario, records: list[SimRecord], written: str) -> None:
    config = parse(tomllib.loads(written))
    spec = FeatureSpec.of(config)
    assert (config.record.key, config.record.timestamp) == (scenario.key_field, "ts")
    for record in records[:: len(records) // 200]:
        body = orjson.loads(record.value)
        assert set(body) == {scenario.key_field, "ts", *spec.numeric, *spec.categorical}
        assert all(isinstance(body[name], float | int) for name in spec.numeric)
        assert all(isinstance(body[name], str) for name in spec.categorical)
        assert body[scenario.plot_field] == record.number


def test_silence_is_watched_where_keys_have_a_rhythm(scenario: Scenario, written: str) -> None:
    assert parse(tomllib.loads(written)).silence.enabled == ("silence" in scenario.kinds)


def test_the_environment_changes_only_servers_and_the_first_training(
    written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "stream_ad.toml"
    file.write_text(written, encoding="utf-8")
    plain = load(file)
    for name, text in BESIDE.items():
        monkeypatch.setenv(name, text)
    beside = load(file)
    assert _changed(plain, beside) == {
        "sink.delivery": "at_least_once",
        "sink.create_topics": False,
        "redis.url": "redis://127.0.0.1:2/0",
        "server.port": 3,
        "train.min_events": 4000,
        "train.max_rows": 60_000,
    }


def test_no_variable_of_somebodys_own_pipeline_reaches_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAM_AD__KAFKA__BROKERS", "kafka.example.com:9092")
    monkeypatch.setenv("STREAM_AD__KAFKA__OPTIONS__SASL_PASSWORD", "secret")
    environ = environment(BESIDE)
    assert environ["STREAM_AD__KAFKA__BROKERS"] == "127.0.0.1:1"
    assert {name for name in environ if name.startswith("STREAM_AD__")} == BESIDE.keys()


def _changed(before: Config, after: Config) -> dict[str, Any]:
    found = {}
    for section, values in after.model_dump().items():
        old = before.model_dump()[section]
        if isinstance(values, dict):
            found |= {f"{section}.{key}": value for key, value in values.items() if old[key] != value}
        elif old != values:
            found[section] = values
    return found
