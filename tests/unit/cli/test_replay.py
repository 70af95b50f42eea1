"""What a replay answers: what was judged, and what was not."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner, Result

from stream_ad.cli.commands import app
from stream_ad.errors import InputError

TOML = """
source.topic = "t"
redis.url = "redis://127.0.0.1:1/0"
record = {key = "KEY", timestamp = "ts", timestamp_format = "s"}
window = {rows = 4, late = "drop", allowed_lateness = "1s"}
features.numeric.FIELD = ["zscore"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    times = [1_780_000_000 + (0 if row == 30 else row) for row in range(60)]
    lines = [orjson.dumps({"k": "x", "ts": at, "a": row % 5}) for row, at in enumerate(times)]
    (tmp_path / "in.jsonl").write_bytes(b"\n".join([*lines, b"{", b'{"k": 1.5, "ts": 1780000060}']) + b"\n")
    return tmp_path


def replayed(folder: Path, key: str, field: str, *options: str) -> Result:
    (folder / "s.toml").write_text(TOML.replace("KEY", key).replace("FIELD", field))
    arguments = ["replay", "-c", str(folder / "s.toml"), "-i", str(folder / "in.jsonl"), "--model", "statistical"]
    return CliRunner().invoke(app, [*arguments, *options])


def test_rejects_late_events_and_a_field_that_no_event_has_are_said(folder: Path) -> None:
    told = orjson.loads(replayed(folder, "k", "aa", "--json").stdout)
    assert (told["events"], told["rejects"], told["late"]) == (59, 2, 1)
    assert told["reject_codes"] == {"bad_json": 1, "bad_key": 1}
    assert told["absent"] == ["features.numeric.aa"]
    words = replayed(folder, "k", "aa").stdout
    assert "2 rejects (bad_json 1, bad_key 1), 1 late events dropped (see window.late)" in words
    assert "features.numeric.aa: in none of 59 events; is the name right?" in words


def test_a_replay_that_could_judge_no_record_has_failed(folder: Path) -> None:
    done = replayed(folder, "nokey", "a")
    assert isinstance(done.exception, InputError)
    assert "all 62 records were rejected, the first for 'bad_key: nokey: is missing or empty'" in str(done.exception)
