"""What `init` writes for a file, and that a replay of the file under it rejects as much as it said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from stream_ad.cli.commands import app
from stream_ad.cli.sample import of_file, reject_reasons
from stream_ad.config.schema import load
from stream_ad.errors import InputError


def init(tmp_path: Path, name: str, text: str) -> tuple[Result, Path]:
    file, output = tmp_path / name, tmp_path / "out.toml"
    file.write_text(text, encoding="utf-8")
    arguments = ["init", "--input", str(file), "--output", str(output), "--json"]
    return CliRunner().invoke(app, arguments), output


def rows(line: str, count: int = 200) -> str:
    clocks = (f"08:{i // 60:02}:{i % 60:02}" for i in range(count))
    return "".join(
        line.format(day="2026-03-02", clock=clock, key=f"p{i % 3}", n=20 + i % 7, i=i) for i, clock in enumerate(clocks)
    )


@pytest.mark.parametrize(
    ("name", "text", "rejects"),
    [
        ("a.csv", "ts,sensor,temp\n" + rows("{day}T{clock},{key},{n}.5\n") + "Total,,9\nts,sensor,temp\n", 2),
        ("a.tsv", "\ufeffts\tsensor\ttemp\n" + rows('{day}T{clock}\t{key}\t"{n},5"\n') + "x\n", 1),
        ("a.csv", "ts;sensor;temp\n" + rows("{day}T{clock};{key};1.0{n},5\n"), 0),
        ("a.json", "\ufeff" + rows('{{"ts":"{day}T{clock}","id.host":"{key}","temp":{n}}}\n') + "{\n", 1),
    ],
)
def test_a_file_is_proposed_and_read(tmp_path: Path, name: str, text: str, rejects: int) -> None:
    result, output = init(tmp_path, name, text)
    assert result.exit_code == 0, result.output
    said = json.loads(result.output)
    assert (said["key"], said["timestamp"]) == ("id.host" if name == "a.json" else "sensor", "ts")
    assert list(said["numeric"]) == ["temp"]
    assert sum(said["rejects"].values()) == rejects
    assert len(reject_reasons(load(output), of_file(tmp_path / name))) == rejects


def test_a_configuration_that_rejects_everything_is_an_error_that_says_why(tmp_path: Path) -> None:
    result, output = init(tmp_path, "a.csv", "ts,temp\n" + rows("{day}T{clock},{n}\n"))
    assert isinstance(result.exception, InputError)
    assert "rejects all of 200 records, the first for 'bad_key" in str(result.exception)
    assert "NOT DECIDED: no field looks like a key" in output.read_text()
