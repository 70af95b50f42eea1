"""A backtest says what the pipeline said, bit for bit, also where models were swapped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import orjson
import pytest

from stream_ad import build, config
from stream_ad.batch import Message
from stream_ad.config.features import FeatureSpec
from stream_ad.errors import InputError
from stream_ad.io.bounded import read_decoded
from stream_ad.io.memory import MemoryCluster, MemoryModelLog, MemorySink, MemorySource, MemoryStateStore, Record
from stream_ad.jobs import train as training
from stream_ad.jobs.backtest import Backtest, no_formula, replayed
from stream_ad.messages.models import encode_bundle, encode_swap
from stream_ad.protocols import BUILT_IN, Swap
from stream_ad.score.bundle import Bundle
from stream_ad.state import assemble

CONFIG = config.parse(
    {
        "source": {"topic": "t"},
        "record": {"key": "k", "timestamp": "t", "timestamp_format": "ms"},
        "window": {"rows": 4, "max_keys": 50},
        "features": {"numeric": {"a": ["raw", "zscore"]}},
        "threshold": {"false_alarm_rate": 1e-2},
        "redis": {"url": "redis://127.0.0.1:1", "wait": "1ms"},
        "train": {"epochs": 3, "hidden": [8, 4], "min_events": 256},
    }
)
SPEC = FeatureSpec.of(CONFIG)
FIRST = 50  # offset: what came before has expired


def records() -> dict[int, list[Record]]:
    noise = np.random.default_rng(3)
    log: dict[int, list[Record]] = {0: [], 1: []}
    for number in range(2000):
        key = int(noise.integers(20))
        value = noise.normal(10 * key, 1) + (60 if number % 100 == 99 else 0)
        line = orjson.dumps({"k": f"key-{key}", "t": 1_700_000_000_000 + 1000 * number, "a": value})
        record = Record(None, b"{" if number % 500 == 7 else line, offset=FIRST if not log[key % 2] else -1)
        log[key % 2].append(record)
    return log


LOG = records()


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return training.fit(CONFIG, MemorySource("t", LOG), "t")[0]


def ordered(messages: Sequence[Message]) -> dict[int, list[Message]]:
    """Of each partition, in the order in which they were said."""
    found: dict[int, list[Message]] = {partition: [] for partition in LOG}
    for message in messages:
        said = dict(message.headers)
        partition = said.get("reject_partition")
        if partition is None:
            partition = orjson.loads(message.value or b"")["position"]["partition"]
        found[int(partition)].append(message)
    return found


def by_the_pipeline(swaps: MemoryCluster) -> tuple[dict[int, list[Message]], dict[int, list[Message]]]:
    log, sink = MemoryModelLog(swaps), MemorySink(MemoryCluster())
    held = build.models(CONFIG, SPEC, None, log)
    begun = MemoryCluster(offsets=dict.fromkeys(LOG, 0))  # a group whose models have judged has offsets
    ports = build.Ports(MemorySource("t", LOG, begun), sink, MemoryStateStore(), log)
    try:
        build.pipeline(CONFIG, SPEC, assemble.folds(CONFIG, SPEC), ports, held).run(lambda: False)
    finally:
        held.close()
    return ordered(sink.cluster.published["alerts"]), ordered(sink.cluster.published["rejects"])


def by_the_backtest(
    swaps: MemoryCluster, poll_rows: int
) -> tuple[dict[int, list[Message]], dict[int, list[Message]], set[str]]:
    log, source = MemoryModelLog(swaps), MemorySource("t", LOG, poll_rows=poll_rows)
    held = build.models(CONFIG, SPEC, None, log)
    parts = assemble.Assembly.of(CONFIG)
    backtest = Backtest(parts, source, held, log)
    alerts: list[Message] = []
    rejects: list[Message] = []
    versions: set[str] = set()
    try:
        for batches in read_decoded(source, parts.codec, backtest):
            for judged in backtest.judged(batches):
                alerts += judged.alerts
                rejects += judged.rejects
                versions |= {verdicts.scores.version for verdicts in judged.verdicts}
    finally:
        held.close()
    return ordered(alerts), ordered(rejects), versions


TRAINED = "trained"
SWAPS = {
    "none": {},
    "one each": {0: [(FIRST, BUILT_IN), (400, TRAINED)], 1: [(FIRST, BUILT_IN), (701, TRAINED)]},
    "there and back": {0: [(FIRST, BUILT_IN), (300, TRAINED), (301, BUILT_IN), (900, TRAINED)], 1: [(FIRST, TRAINED)]},
    "to the same": {0: [(FIRST, TRAINED), (400, TRAINED), (500, BUILT_IN)], 1: [(FIRST, BUILT_IN), (400, BUILT_IN)]},
    "before and after": {
        0: [(0, BUILT_IN), (10, TRAINED), (20, BUILT_IN), (30, TRAINED), (400, BUILT_IN)],
        1: [(99_999, TRAINED)],
    },
}


@pytest.mark.parametrize("poll_rows", [64, 1000])
@pytest.mark.parametrize("name", SWAPS)
def test_it_says_what_the_pipeline_said_in_the_order_of_each_partition(
    bundle: Bundle, name: str, poll_rows: int
) -> None:
    cluster = MemoryCluster()
    for partition, swaps in SWAPS[name].items():
        for offset, version in swaps:
            swap = Swap(partition, offset, bundle.version if version == TRAINED else version)
            cluster.published["models"].append(encode_swap(swap))
    cluster.published["bundles"] += encode_bundle(bundle.version, bundle.to_bytes())
    alerts, rejects = by_the_pipeline(cluster)
    assert all(alerts.values())
    assert all(rejects.values())
    *again, versions = by_the_backtest(cluster, poll_rows)
    assert again == [alerts, rejects]
    assert versions == ({BUILT_IN} if name == "none" else {BUILT_IN, bundle.version})


class Broken(MemorySource):
    def poll(self, timeout_ms: int) -> list[object]:  # type: ignore[override]
        raise InputError("t: cannot be read")


def test_what_the_source_raises_is_raised_and_no_file_is_left(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="t: cannot be read"):
        replayed(
            CONFIG, Broken("t", LOG), tmp_path / "a", None, None, BUILT_IN, swaps=False, progress=lambda events: None
        )
    assert list(tmp_path.iterdir()) == []


def test_why_a_record_was_rejected_stands_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    result = replayed(
        CONFIG, MemorySource("t", LOG), None, None, None, BUILT_IN, swaps=False, progress=lambda events: None
    )
    assert (result.codes.total(), result.events, result.versions) == (4, 1996, [BUILT_IN])
    assert "4 records rejected so far, the latest at t/1/585: bad_json: unexpected end of data" in caplog.messages


@pytest.mark.parametrize(
    ("key", "cell"),
    [
        ("=1+1", "'=1+1"), ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"), ("-2+3", "'-2+3"), ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"), ("-5", "-5"), ("+49.5", "+49.5"), ("a=b", "a=b"), ("", ""), ("-", "'-"), ("+1 2", "'+1 2"),
    ],
)  # fmt: skip
def test_a_key_is_no_formula_for_a_spreadsheet(key: str, cell: str) -> None:
    assert no_formula(key) == cell
