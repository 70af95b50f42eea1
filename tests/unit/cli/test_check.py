"""What `check` says of the file alone, whatever servers there are."""

from __future__ import annotations

import importlib
from pathlib import Path

import orjson
from typer.testing import CliRunner

from stream_ad.cli.commands import app
from stream_ad.cli.sample import decoded
from stream_ad.config import parse
from stream_ad.config.features import FeatureSpec
from stream_ad.propose.infer import Sample

check = importlib.import_module("stream_ad.cli.check")  # the package has the command under this name

TOML = """
[kafka.options]
"no.such.option" = "so that no broker is waited for"
[redis]
url = "redis://127.0.0.1:1/0"
[features.numeric]
a = ["raw"]
[train]
scorer = "half_space_trees"
trees = 40
hidden = [8, 2]
"""


def test_keys_that_the_chosen_part_does_not_use_are_named(tmp_path: Path) -> None:
    path = tmp_path / "stream_ad.toml"
    path.write_text(TOML)
    line = "train.hidden: the scorer half_space_trees does not use it; remove it"
    said = CliRunner().invoke(app, ["check", "--config", str(path)]).output
    assert f"! {line}\n" in said


RECORDS = parse({
    "record": {"key": "k", "timestamp": "t", "timestamp_format": "s"},
    "window": {"late": "drop", "allowed_lateness": "5s"},
    "features": {"numeric": {"a": ["zscore"], "b": ["zscore"], "bb": ["zscore"]}, "categorical": {"c": ["novelty"]}},
    "sink": {"redact": ["card", "deep.pan"], "payload_fields": ["a", "nowhere"]},
})  # fmt: skip


def test_fields_that_are_missing_or_gone_and_late_events_are_found_in_a_sample() -> None:
    rows = []
    for row in range(200):
        record = {"k": "x", "t": 1_780_000_000 + (row if row != 50 else 0), "a": 1, "deep": [{"pan": 1}], "card": 1}
        rows.append(record | ({"b": 2} if row % 100 < 70 else {}))
    sample = Sample([None] * 200, [orjson.dumps(one) for one in rows], [0] * 100 + [1] * 100)
    events, rejects = decoded(RECORDS, sample)
    assert not len(rejects)
    assert check._without(FeatureSpec.of(RECORDS), events, sample) == (
        ["features.numeric.bb", "features.categorical.c"],
        ["features.numeric.b"],
    )
    assert check._late(RECORDS, events, sample) == 1
    assert check._unknown_paths(RECORDS, sample) == ["sink.payload_fields: nowhere"]
