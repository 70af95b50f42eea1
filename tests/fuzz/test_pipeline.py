"""Poison of every kind in a log: as many rejects with reason and position, and no other score moves by a bit."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
import orjson
import pytest

from stream_ad import build, config
from stream_ad.batch import Message, Verdicts
from stream_ad.config.features import FeatureSpec
from stream_ad.io.memory import MemoryCluster, MemoryModelLog, MemorySink, MemorySource, MemoryStateStore, Record
from stream_ad.state import assemble
from tests.support.poison import KINDS, NOW_MS, Row, good, with_field

WAYS = {
    "by_field": {"key": "k", "timestamp": "t"},
    "own": {"numbers_as_text": True},
}
FIELDS = {"event": ["gap"], "numeric": {"a": ["raw", "zscore"], "d.x": ["raw"]}, "categorical": {"c": ["novelty"]}}
HEADERS = [("trace", b"7"), ("empty", None), ("odd", b"\xff\x00")]
MOST_BYTES = 900_000


def judged(way: str, records: Sequence[Record], poll_rows: int, **sink: Any) -> tuple[list[Any], MemoryCluster]:
    """Key, time, score, threshold and p-value of each event to the bit, in the order of the log; and what was sent."""
    settings = {
        "record": WAYS[way],
        "features": FIELDS,
        "window": {"rows": 4, "max_keys": 20},
        "source": {"topic": "t"},
    }
    found = config.parse({**settings, "sink": {"commit_interval": "1ms", **sink}})
    spec, cluster, events = FeatureSpec.of(found), MemoryCluster(), []

    def observe(verdicts: Verdicts) -> None:
        batch = verdicts.scores.features
        keyed = batch.windows.keyed.events
        for at, row in enumerate(batch.row.tolist()):
            bits = [column[at].tobytes() for column in (verdicts.scores.score, verdicts.threshold, verdicts.p_value)]
            events.append((keyed.key[row], int(keyed.ts_ms[row]), *bits))

    log = MemoryModelLog(cluster)
    ports = build.Ports(
        MemorySource("t", {0: records}, cluster, poll_rows), MemorySink(cluster), MemoryStateStore(), log
    )
    held = build.models(found, spec, None, log)
    try:
        build.pipeline(found, spec, assemble.folds(found, spec), ports, held, observe).run(lambda: False)
    finally:
        held.close()
    assert cluster.offsets[0] == len(records), "all is committed"
    return events, cluster


def record(row: Row) -> Record:
    return Record(row.key, row.value, row.time_ms, HEADERS)


def told(message: Message) -> dict[str, Any]:
    return dict(message.headers)


@pytest.mark.parametrize("poll_rows", [7, 1000])
@pytest.mark.parametrize("way", WAYS)
def test_poison_of_every_kind_is_rejected_and_no_other_score_moves(way: str, poll_rows: int) -> None:
    random = Random(5)
    clean = [record(good(number)) for number in range(400)]
    poison = []
    for kind in KINDS.values():
        code = getattr(kind, way)
        if code is not None:
            rows = [kind.make(random) for _ in range(3)]
            poison += [(record(row), code) for row in rows[: 1 if len(rows[0].value or b"") > 10**6 else 3]]
    random.shuffle(poison)
    mixed: list[tuple[Record, str | None]] = [(one, None) for one in clean]
    for one in poison:
        mixed.insert(random.randrange(len(mixed) + 1), one)
    undisturbed, _ = judged(way, clean, poll_rows)
    events, cluster = judged(way, [one for one, _ in mixed], poll_rows)
    assert len(undisturbed) == len(clean)
    assert events == undisturbed
    rejects = cluster.published["rejects"]
    expected = [(offset, one, code) for offset, (one, code) in enumerate(mixed) if code is not None]
    assert len(rejects) == len(expected)
    for message, (offset, one, code) in zip(rejects, expected, strict=True):
        why = told(message)
        assert (why["reject_topic"], why["reject_partition"], why["reject_offset"]) == (b"t", b"0", b"%d" % offset)
        assert why["reject_code"].decode() == code
        assert why["reject_reason"].decode().startswith(f"{code}: ")
        assert message.headers[: len(HEADERS)] == HEADERS
        if "reject_cut" in why:
            assert max(len(one.key or b""), len(one.value or b"")) > MOST_BYTES - 10_000
            assert (one.value or b"").startswith(message.value or b"")
        else:
            assert (message.key, message.value) == (one.key, one.value)


def test_rejects_that_are_read_again_are_rejected_once_and_do_not_grow() -> None:
    log = [record(kind.make(Random(3))) for kind in KINDS.values() if kind.by_field]
    for _ in range(3):
        _, cluster = judged("by_field", log, 1000)
        rejects = cluster.published["rejects"]
        assert len(rejects) == len(log)
        sizes = [len(message.value or b"") + len(message.key or b"") + len(message.headers) for message in rejects]
        assert all(size <= MOST_BYTES for size in sizes)
        log = [Record(message.key, message.value, NOW_MS, message.headers) for message in rejects]


@pytest.mark.parametrize(
    ("name", "written", "carried"),
    [
        ("deep", b"[" * 900 + b"]" * 900, False),
        ("large", b'"%b"' % (b"x" * 899_000), False),
        ("grows when it is written", b"[" + b",".join([b"1e15"] * 100_000) + b"]", False),
        ("beyond 64 bits", b"9" * 300, True),
        ("escaped", b'"\\u0000\\u001b\\ud83d\\ude00"', True),
        ("large enough", b'"%b"' % (b"x" * 800_000), True),
    ],
)
def test_an_alert_whose_payload_cannot_be_written_is_sent_without_it(name: str, written: bytes, carried: bool) -> None:
    random = Random(1)
    values = [with_field(b"a", b"%f" % random.gauss(10, 1)) for _ in range(1000)]
    values[900] = with_field(b"z", written).replace(b'"a":1.5,"d":{"x":2}', b'"a":1e12,"d":{"x":2e9}')
    log = [Record(b"card-1", value, NOW_MS + 1000 * number, HEADERS) for number, value in enumerate(values)]
    events, cluster = judged("own", log, 50, payload_fields=["z", "d.x"])
    assert len(events) == len(log)
    alerts = [orjson.loads(value) for value in sent(cluster, "alerts")]
    about = [alert for alert in alerts if alert["position"]["offset"] == 900 and alert["phase"] == "opened"]
    assert about, "the spike is an anomaly"
    for body in about:
        assert ("z" in body["payload"]) == carried
        assert body.get("payload_omitted", []) == ([] if carried else ["z"])
        assert body["payload"]["d.x"] == 2e9
    assert all(len(value) <= MOST_BYTES for value in sent(cluster, "alerts"))


def sent(cluster: MemoryCluster, role: Any) -> list[bytes]:
    return [message.value or b"" for message in cluster.published[role]]


def test_bounds_of_the_event_time_keep_the_watermark_where_it_is() -> None:
    """One record of the year 2090 or 1970 is not judged as if it were the newest or the oldest."""
    clean = [record(good(number)) for number in range(100)]
    absurd = [Record(b"card-1", good(1).value, int(np.int64(ms))) for ms in (1, 4_200_000_000_000, 2**62)]
    undisturbed, _ = judged("own", clean, 10)
    events, cluster = judged("own", [*clean[:50], *absurd, *clean[50:]], 10)
    assert events == undisturbed
    assert [told(message)["reject_code"] for message in cluster.published["rejects"]] == [b"bad_timestamp"] * 3
