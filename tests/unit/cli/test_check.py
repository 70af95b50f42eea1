"""What `check` says of the file alone, whatever servers there are."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from stream_ad.cli.commands import app

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
