"""`stream-ad evaluate --train --folds K`, from a file to tables or JSON."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest
from typer.testing import CliRunner

from stream_ad.cli.commands import app
from tests.support.labelled import labelled_csv

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
[train]
scorer = "{scorer}"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("folds")
    labelled_csv(made / "labelled.csv", rows=1200, every=100)
    (made / "one.toml").write_text(TOML.format(scorer="mahalanobis"))
    (made / "two.toml").write_text(TOML.format(scorer="nearest_neighbours"))
    return made


def asked(folder: Path, *arguments: str):
    return CliRunner().invoke(app, ["evaluate", "-i", str(folder / "labelled.csv"), "--train", *arguments])


def test_each_fold_the_mean_and_the_spread_stand_beside_the_baselines(folder: Path) -> None:
    run = asked(folder, "--folds", "2", "-c", str(folder / "one.toml"))
    assert run.exit_code == 0, run.output
    words = " ".join(run.output.split())
    assert "800 records count in 2 folds, 8 are labelled" in words
    assert run.output.count("  one ") == 2 * 4
    for row in ("one 1", "one 2", "one mean", "one ±", "untrained mean", "random mean", "differences mean"):
        assert row in words
    assert max(len(line) for line in run.output.splitlines() if line.startswith(" ")) <= 80, "tables fit a terminal"


def test_configurations_are_compared_fold_by_fold(folder: Path) -> None:
    paths = ("-c", str(folder / "one.toml"), "-c", str(folder / "two.toml"))
    run = asked(folder, "--folds", "2", *paths, "--json")
    assert run.exit_code == 0, run.output
    document = orjson.loads(run.stdout)
    assert document["folds"] == 2
    one, two = document["validations"]
    assert (one["name"], two["name"]) == ("one", "two")
    rows = [fold["evaluations"][0]["figures"]["average_precision"] for fold in two["folds"]]
    assert two["summary"]["two"]["mean"]["average_precision"] == pytest.approx(sum(rows) / 2)
    assert two["summary"]["two"]["deviation"]["average_precision"] == pytest.approx(float(np.std(rows, ddof=1)))
    assert [fold["first_ms"] for fold in one["folds"]] == [fold["first_ms"] for fold in two["folds"]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--folds", "2", "--only", "a=1"), "--only: does not go with --folds"),
        (("--folds", "2", "--report", "r.html"), "--report: does not go with --folds"),
    ],
)
def test_what_does_not_go_together_is_refused(folder: Path, arguments: tuple[str, ...], said: str) -> None:
    run = asked(folder, "-c", str(folder / "one.toml"), *arguments)
    assert said in str(run.exception or run.output)


def test_folds_are_for_what_is_trained(folder: Path) -> None:
    run = CliRunner().invoke(app, ["evaluate", "-i", str(folder / "labelled.csv"), "--folds", "2"])
    assert "--folds: compares what is trained; give --train too" in str(run.exception or run.output)
