"""Bytes in, alerts out: what is judged does not depend on how the log is cut, and the shell stays away."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ad import config
from stream_ad.batch import Message, RawBatch
from stream_ad.errors import ModelError, StateError
from stream_ad.score.local import LocalModels
from stream_ad.state.assemble import Assembly, judge, judge_decoded

EVENTS = 600
CONFIG = config.parse(
    {
        "record": {"key": "k", "timestamp": "t", "timestamp_format": "ms"},
        "window": {"rows": 4, "max_keys": 50, "late": "reject", "allowed_lateness": "5s"},
        "features": {"numeric": {"a": ["raw", "zscore"]}},
        "threshold": {"false_alarm_rate": 2e-3},
    }
)
PARTS = Assembly.of(CONFIG)


def lines(partition: int) -> list[bytes]:
    """Spikes, malformed lines, and events that come too late."""
    noise = np.random.default_rng(partition)
    values = []
    for number in range(EVENTS):
        event = {
            "k": f"key-{partition}-{noise.integers(5)}",
            "t": 1_700_000_000_000 + 1000 * number - (60_000 if number % 150 == 149 else 0),
            "a": noise.normal(10, 1) + (60 if number % 100 == 99 else 0),
        }
        values.append(b"{" if number % 200 == 7 else orjson.dumps(event))
    return values


LINES = {partition: lines(partition) for partition in (0, 1)}


def raw(partition: int, first: int, last: int) -> RawBatch:
    values = LINES[partition][first:last]
    n = len(values)
    return RawBatch(
        "t", partition, np.arange(first, last), np.full(n, -1), [None] * n, list(values), lambda row: [], last
    )


@pytest.fixture(scope="module")
def models() -> Iterator[LocalModels]:
    with LocalModels(CONFIG) as local:
        yield local


def outcome(polls: Sequence[Sequence[RawBatch]], models: LocalModels) -> dict[int, tuple[list[Message], list[Message]]]:
    """Alerts and rejects of each partition, in order."""
    shards = {partition: PARTS.shard(partition) for partition in LINES}
    found: dict[int, tuple[list[Message], list[Message]]] = {partition: ([], []) for partition in LINES}
    for batches in polls:
        judged = judge(PARTS, shards, batches, models)
        for alert in judged.alerts:
            found[orjson.loads(alert.value or b"")["position"]["partition"]][0].append(alert)
        for reject in judged.rejects:
            found[int(dict(reject.headers)["reject_partition"] or 0)][1].append(reject)
    assert {shard.next_offset for shard in shards.values()} == {EVENTS}
    return found


@pytest.fixture(scope="module")
def at_once(models: LocalModels) -> dict[int, tuple[list[Message], list[Message]]]:
    return outcome([[raw(partition, 0, EVENTS) for partition in LINES]], models)


def test_spikes_are_alerts_and_what_cannot_be_judged_is_rejected(
    at_once: dict[int, tuple[list[Message], list[Message]]],
) -> None:
    for partition, (alerts, rejects) in at_once.items():
        assert {orjson.loads(alert.value or b"")["position"]["offset"] for alert in alerts} >= {399, 499}
        why = [(dict(reject.headers)["reject_code"], dict(reject.headers)["reject_partition"]) for reject in rejects]
        assert sorted(why) == [(b"bad_json", b"%d" % partition)] * 3 + [(b"late", b"%d" % partition)] * 4


@settings(max_examples=20)
@given(data=st.data())
def test_the_same_comes_out_however_the_log_is_cut(
    data: st.DataObject, models: LocalModels, at_once: dict[int, tuple[list[Message], list[Message]]]
) -> None:
    cuts = st.lists(st.integers(0, EVENTS), max_size=6)
    ends = {partition: [0, *sorted(data.draw(cuts)), EVENTS] for partition in LINES}
    pieces = [raw(partition, first, last) for partition in LINES for first, last in pairwise(ends[partition])]
    polls: list[list[RawBatch]] = [[]]
    for piece in sorted(pieces, key=lambda piece: piece.next_offset):
        if data.draw(st.booleans(), label="with the next poll"):
            polls.append([])
        polls[-1].append(piece)
    cut_up = outcome(polls, models)
    for partition, (alerts, rejects) in at_once.items():
        assert cut_up[partition][0] == alerts
        assert sorted(cut_up[partition][1], key=repr) == sorted(rejects, key=repr)


def test_nothing_is_folded_twice(models: LocalModels) -> None:
    shards = {0: PARTS.shard(0)}
    judge(PARTS, shards, [raw(0, 0, 100)], models)
    with pytest.raises(StateError, match="begins at offset 99, and its shard has judged all below 100"):
        judge(PARTS, shards, [raw(0, 99, 200)], models)


def test_a_version_that_is_not_there_is_named(models: LocalModels) -> None:
    with pytest.raises(ModelError, match="model v7: is not among statistical"):
        judge(PARTS, {0: PARTS.shard(0, "v7")}, [raw(0, 0, 100)], models)


def test_the_way_from_bytes_to_alerts_is_read_at_a_glance() -> None:
    for function in (judge, judge_decoded):
        assert len(inspect.getsource(function).splitlines()) < 30


SHELL = (
    "prometheus_client",
    "confluent_kafka",
    "redis",
    "torch",
    "stream_ad.metrics",
    "stream_ad.io",
    "stream_ad.score",
)


def test_importing_it_brings_no_metrics_no_client_and_no_torch() -> None:
    code = f"import sys, stream_ad.state.assemble; print([name for name in {SHELL} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
