"""`stream-ad evaluate`, from a file to a table or JSON."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from stream_ad.cli.commands import app
from tests.support.labelled import labelled_csv
from tests.support.pipelines import children
from tests.support.waiting import WAIT_S, until

TOML = """
pipeline = "p"
[source]
topic = "t"
[record]
key = "k"
timestamp = "t"
timestamp_format = "ms"
[features.numeric]
a = ["zscore"]
[threshold]
false_alarm_rate = {rate}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("evaluate")
    labelled_csv(made / "labelled.csv", rows=2000, every=200)
    (made / "one.toml").write_text(TOML.format(rate="1e-3"))
    (made / "two.toml").write_text(TOML.format(rate="1e-2"))
    return made


def asked(folder: Path, *arguments: str) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "stream_ad", "evaluate", "--input", str(folder / "labelled.csv"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    return done.returncode, done.stdout, done.stderr


def test_the_table_has_the_detector_and_what_it_has_to_beat(folder: Path) -> None:
    run = CliRunner().invoke(app, ["evaluate", "-i", str(folder / "labelled.csv"), "-c", str(folder / "one.toml")])
    assert run.exit_code == 0, run.output
    assert "2,000 records count, 10 are labelled, in 10 events" in " ".join(run.output.split())
    for row in ("one", "random", "always", "differences", "variances"):
        assert run.output.count(f"  {row} ") == 2, run.output
    assert max(len(line) for line in run.output.splitlines() if line.startswith(" ")) <= 80, "tables fit a terminal"


def test_configurations_are_compared_in_processes_of_their_own(folder: Path) -> None:
    arguments = ("-c", "one.toml", "-c", "two.toml", "--json", "--warm-up", "100", "--report", "report.html")
    code, out, err = asked(folder, *arguments)
    assert (code, err) == (0, "")
    page = (folder / "report.html").read_text()
    assert page.count("<h2>") == 2
    assert "1,900 records count" in page
    one, two, *beside = orjson.loads(out)["evaluations"]
    assert (one["name"], two["name"]) == ("one", "two")
    assert (one["stated_rate"], two["stated_rate"]) == (1e-3, 1e-2)
    assert one["figures"]["rows"] == two["figures"]["rows"] == 1900
    assert one["figures"]["roc_auc"] == two["figures"]["roc_auc"] > 0.99
    assert two["figures"]["flagged"] > one["figures"]["flagged"]
    assert [row["name"] for row in beside] == ["random", "always", "differences", "variances"]
    assert beside[2]["figures"]["precision"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("-c", "one.toml", "--only", "split"), 2, "--only: give FIELD=VALUE, as in split=test (got 'split')"),
        (("-c", "one.toml", "--report", "nowhere/a.html"), 2, "--report: nowhere/a.html cannot be written"),
        (("-c", "one.toml", "--report", "."), 2, "--report: . is a folder; name a file"),
        (("-c", "one.toml", "--label", "fraud"), 4, "--label: no record has a field 'fraud'"),
        (("-c", "one.toml", "--only", "a=none"), 4, "no record counts: see --only and --warm-up"),
        (("-c", "one.toml", "-c", "none.toml"), 2, "none.toml"),
        (("-c", "one.toml", "--train", "--warm-up", "10"), 4, "evaluate: "),
    ],
)
def test_what_is_wrong_is_said(folder: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    answered, out, err = asked(folder, *arguments)
    assert answered == code, out + err
    assert said in err
    assert "Traceback" not in err


def test_ctrl_c_ends_all_processes_without_a_word(folder: Path, tmp_path: Path) -> None:
    line = (folder / "labelled.csv").read_text().partition("\n")
    (tmp_path / "long.csv").write_text(line[0] + "\n" + 200 * line[2])
    arguments = ["-c", "one.toml", "-c", "two.toml", "--input", str(tmp_path / "long.csv")]
    command = [sys.executable, "-m", "stream_ad", "evaluate", *arguments]
    with subprocess.Popen(command, cwd=folder, stdout=-1, stderr=-1, text=True, start_new_session=True) as process:
        until(lambda: len(children(process.pid, b"spawn_main")) == 2)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, out, err) == (130, "", "")
