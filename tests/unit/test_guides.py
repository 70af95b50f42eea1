"""The guides for parts of one's own are true word for word: what they show is installed, tested and run."""

from __future__ import annotations

import tomllib
from typing import Any

import numpy as np
import orjson
import pytest

from stream_ad import registry
from stream_ad.batch import F64
from stream_ad.config import Config, parse
from stream_ad.config.features import FeatureSpec
from stream_ad.io.memory import Record
from stream_ad.score.engine import Engine
from stream_ad.score.train import train
from stream_ad.testing import Encoder
from tests.support.guides import GUIDES, Guide
from tests.support.in_memory import life

pytestmark = pytest.mark.usefixtures("guides")

NOW_MS = 1_767_225_600_000
ODD = 350  # the row that is anomalous


def guide(kind: str) -> Guide:
    (found,) = [one for one in GUIDES if one.entry_point[0] == f"stream_ad.{kind}"]
    return found


def configured(of: Guide, **changed: Any) -> Config:
    """By the page's own configuration."""
    (text,) = of.code("toml")
    return parse(tomllib.loads(text) | {"source": {"topic": "t"}} | changed)


def amounts() -> F64:
    values = np.random.default_rng(1).normal(10.0, 1.0, 400)
    values[ODD] = 90.0
    return values


def test_there_is_a_guide_for_each_kind_that_is_installed_by_an_entry_point() -> None:
    assert {one.entry_point[0].partition(".")[2] for one in GUIDES} >= {"scorer", "threshold", "codec"}


@pytest.mark.parametrize("of", GUIDES, ids=lambda of: of.path.stem)
def test_the_tests_of_a_guide_pass(of: Guide) -> None:
    code = of.code("python")[1:]
    assert code
    for text in code:
        module: dict[str, Any] = {}
        exec(compile(text, of.path.name, "exec"), module)
        tests = [function for name, function in module.items() if name.startswith("test_")]
        assert tests
        for test in tests:
            test()


def test_the_threshold_of_the_guide_judges_a_stream() -> None:
    made = configured(guide("threshold"), record={"key": "k", "timestamp": "t", "timestamp_format": "ms"})
    assert type(made.threshold).__name__ == "DeviationsOptions"
    assert type(registry.threshold(made.threshold.kind)(made.threshold)).__name__ == "Deviations"
    records = [
        Record(None, orjson.dumps({"k": f"k{row % 2}", "t": NOW_MS + 1000 * row, "amount": amount}))
        for row, amount in enumerate(amounts().tolist())
    ]
    alerts = [orjson.loads(one.value or b"") for one in life(made, records).published["alerts"]]
    assert ODD in [alert["position"]["offset"] for alert in alerts if alert["phase"] == "opened"]
    assert life(made, records, poll_rows=7).published["alerts"] == life(made, records).published["alerts"]


def written(made: Config) -> list[Record]:
    """The same events in the format of the configuration, and one record that is none."""
    codec = registry.codec(made.record.format)(made.record, ["amount"], ["shop"])
    assert isinstance(codec, Encoder)
    lines = [
        codec.encode(b"card-%d" % (row % 2), NOW_MS + 1000 * row, [amount], [b"books"])
        for row, amount in enumerate(amounts().tolist())
    ]
    lines[100] = b"no record"
    return [Record(None, line) for line in lines]


def test_the_codec_of_the_guide_reads_a_stream_as_another_codec_does() -> None:
    lines = configured(guide("codec"), threshold={"false_alarm_rate": 1e-2})
    json = configured(guide("codec"), threshold={"false_alarm_rate": 1e-2}, record={"key": "card", "timestamp": "time"})
    records = written(lines)
    assert (records[0].value or b"").startswith(b"card-0;2026-01-01T00:00:00.000Z;")
    told, expected = life(lines, records).published, life(json, written(json)).published
    assert told["alerts"] == expected["alerts"] != []
    (reject,) = told["rejects"]
    assert reject.value == b"no record"
    assert dict(reject.headers)["reject_code"] == b"bad_line"


def test_the_scorer_of_the_guide_trains_scores_and_explains() -> None:
    (text,) = guide("scorer").code("toml")
    assert "percentile = 75\n" in text
    config = configured(guide("scorer"), window={"rows": 4}, features={"numeric": {"a": ["raw"]}})
    spec = FeatureSpec.of(config)
    x = np.random.default_rng(0).normal(size=(900, spec.rows, len(spec.features))).astype(np.float32)
    bundle = train(x[:600], np.arange(600), spec, config.train, "noise", 0)
    assert float(bundle.tensors["spread"][0]) == pytest.approx(1.15, abs=0.15)  # of a Gaussian; its median is 0.67
    engine = Engine(config.scoring, spec)
    try:
        scorer = engine.load(bundle.to_bytes())
        odd = x[600:].copy()
        odd[7, -1, 0] = 50.0
        odd[8] = np.nan
        (scores,) = engine.submit(scorer, [odd]).result()
        alone = [float(engine.submit(scorer, [odd[row : row + 1]]).result()[0][0]) for row in (0, 7, 8, 299)]
        told = engine.explain(scorer, odd[7:8]).result()
    finally:
        engine.close()
    assert np.isfinite(scores).all()
    assert int(scores.argmax()) == 7
    assert abs(float(np.median(scores))) < 1
    assert alone == [float(scores[row]) for row in (0, 7, 8, 299)]
    assert told.contribution[0, -1, 0] == told.contribution.max()
    assert told.contribution.sum() == pytest.approx(1.0)
