"""Values outside their valid range: told once, never learnt."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest

from stream_ad import config
from stream_ad.batch import RawBatch
from stream_ad.errors import ConfigError
from stream_ad.score.local import LocalModels
from stream_ad.state.assemble import Assembly, judge
from tests.support.alerts import VALIDATOR

START = 1_700_000_000_000


def settings(valid: dict[str, list[float]] | None = None, **sink: Any) -> config.Config:
    return config.parse(
        {
            "record": {"key": "k", "timestamp": "t", "timestamp_format": "ms"},
            "features": {"event": [], "numeric": {"a": ["zscore", "zscore_std"], "b": ["zscore"]}},
            "sink": {"payload_fields": ["a"], **sink},
            "rules": {"valid": {"a": [-40, 125]} if valid is None else valid},
        }
    )


def judged(a: list[float | None], made: config.Config, every_ms: int = 1000) -> list[dict[str, Any]]:
    parts = Assembly.of(made)
    lines: list[bytes | None] = [
        orjson.dumps({"k": "x", "t": START + every_ms * at, "a": one, "b": 1.0}) for at, one in enumerate(a)
    ]
    n = len(lines)
    raw = RawBatch("t", 0, np.arange(n), np.full(n, -1), [None] * n, lines, lambda row: [], n)
    with LocalModels(made) as models:
        found = [orjson.loads(one.value or b"") for one in judge(parts, {0: parts.shard(0)}, [raw], models).alerts]
    for one in found:
        VALIDATOR.validate(one)
    return found


def usual(n: int = 1500) -> list[float | None]:
    values = np.random.default_rng(0).normal(20, 5, n).round(3)
    values[1200] = 110.0  # valid, and a spike
    return [float(value) for value in values]


def test_a_value_outside_its_range_is_told_in_its_own_words_and_a_burst_is_one_incident() -> None:
    a = usual()
    a[300:304] = [-999.0] * 4
    ranges = [one for one in judged(a, settings()) if one["rule"] == "range"]
    assert [one["id"] for one in ranges] == ["t/0/300/range", "t/0/313/range/resolved/300"]
    opened, resolved = ranges
    assert opened["summary"] == "x is out of range: a -999 is below its valid range, -40 to 125."
    assert (opened["severity"], opened["score"], opened["p_value"], opened["payload"]) == (
        "medium", None, None, {"a": -999.0},
    )  # fmt: skip
    (why,) = opened["contributors"]
    assert (why["field"], why["observed"], why["low"], why["high"], why["direction"]) == ("a", -999, -40, 125, "below")
    assert resolved["summary"] == "x keeps to its valid ranges again after 4 events in 3 s."


def test_what_is_invalid_is_missing_to_all_that_learns_and_judges() -> None:
    a, missing = usual(), usual()
    for at in (100, 101, 600, 900, *range(1000, 1010)):
        a[at], missing[at] = (1e6 if at % 2 else -999.0), None
    others = [one for one in judged(a, settings()) if one["rule"] != "range"]
    assert others == judged(missing, settings())
    assert [one["position"]["offset"] for one in others if one["phase"] == "opened"] == [1200]


def test_the_bounds_belong_to_the_range_and_a_redacted_field_shows_no_value() -> None:
    a = usual()
    a[10:12] = [-40.0, 125.0]
    assert not [one for one in judged(a, settings()) if one["rule"] == "range"]
    a[500] = 125.5
    (opened, _) = [one for one in judged(a, settings(redact=["a"])) if one["rule"] == "range"]
    assert opened["summary"] == "x is out of range: a ***, above."
    assert "125.5" not in orjson.dumps(opened).decode()


@pytest.mark.parametrize(
    ("valid", "told"),
    [
        ({"a": [5, 1]}, "rules.valid: a: the least valid value must not be above the most valid one"),
        ({"a": [5]}, "rules.valid.a: List should have at least 2 items"),
        ({"a": [0, float("inf")]}, "rules.valid.a.1: Input should be a finite number"),
        ({"c": [0, 1]}, "rules.valid.c: no such field under [features.numeric]; there are: a, b"),
    ],
)
def test_a_range_that_is_none_names_its_key(valid: dict[str, list[float]], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Assembly.of(settings(valid))
    assert told in str(caught.value)
