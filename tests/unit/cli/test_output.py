"""What reaches standard output: unwrapped where it is no terminal, and nothing that a terminal would act on."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from typer.testing import CliRunner

import stream_ad
from stream_ad.cli.commands import app
from stream_ad.cli.output import answer, json_text, say

EVIL = "[bold]\x1b[2J\x9b1m\u202eX\u2028"


def test_what_is_piped_is_neither_wrapped_nor_marked_up(capsys: pytest.CaptureFixture[str]) -> None:
    words = f"one two {'x ' * 100}[red]end"
    answer({}, False, words)
    assert capsys.readouterr().out == words + "\n"


def test_a_table_that_is_piped_has_its_columns_whole(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("long", "and wide")
    table.add_row("x" * 150, "y" * 150)
    say(table)
    assert f"{'x' * 150} │ {'y' * 150}" in capsys.readouterr().out


def test_controls_in_words_and_in_json_are_written_out(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"a\n{EVIL}")
    assert capsys.readouterr().out == "a\n[bold]\\x1b[2J\\x9b1m\\u202eX\\u2028\n"


@given(st.text() | st.just(EVIL + "\U000e0001"))
def test_json_is_printable_and_says_the_same(text: str) -> None:
    written = json_text({text: [text]})
    assert written.isprintable()
    assert json.loads(written) == {text: [text]}


def test_the_version_is_said() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert (done.exit_code, done.output) == (0, f"stream-ad {stream_ad.__version__}\n")
