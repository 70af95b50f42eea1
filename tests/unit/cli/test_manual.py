"""Every command says the same things about itself, in the same words."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from typer import Typer
from typer.main import get_command
from typer.testing import CliRunner

from stream_ad.cli.app import EXIT_CODES
from stream_ad.cli.commands import app
from stream_ad.errors import StreamAdError


def commands(of: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    inner = getattr(of, "commands", None)
    if inner is None:
        yield path
    else:
        for name, command in inner.items():
            yield from commands(command, (*path, name))


COMMANDS = sorted(commands(get_command(app)))


def manual(of: Typer, *path: str) -> str:
    done = CliRunner().invoke(of, [*path, "--help"], env={"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"})
    assert done.exit_code == 0
    return re.sub(r"\s+", " ", done.output)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_a_command_takes_a_configuration_answers_in_json_and_tells_its_exit_codes(path: tuple[str, ...]) -> None:
    told = manual(app, *path)
    assert "--json" in told
    assert "--config" in told or path == ("demo",)  # it makes its own
    listed = re.search(r"Exit codes: (.*)\.", told)
    assert listed is not None
    codes = [int(part.split()[0]) for part in listed[1].split(" · ")]
    assert codes == sorted(codes)
    assert {0, 2, 130} <= set(codes) <= set(EXIT_CODES)


def test_every_error_has_an_exit_code_that_is_told() -> None:
    def below(kind: type[StreamAdError]) -> Iterator[type[StreamAdError]]:
        yield kind
        for one in kind.__subclasses__():
            yield from below(one)

    for kind in below(StreamAdError):
        assert kind.exit_code in EXIT_CODES, kind
