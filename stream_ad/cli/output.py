"""How commands answer: text on a terminal, or one JSON document."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from json import dumps as _dumps
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from stream_ad.errors import ConfigError, printable

out = Console()
piped = Console(width=10_000)
err = Console(stderr=True)
_ODD = re.compile(r"[^\n\x20-\x7e]")


def answer(data: Any, json: bool, words: str) -> None:
    """Prints `data` as JSON, or `words`, to standard output."""
    if json:
        sys.stdout.write(json_text(data, orjson.OPT_INDENT_2) + "\n")
    else:
        say(words)


def say(words: RenderableType) -> None:
    """Prints to standard output: text as it is, whatever it holds, and unwrapped where no terminal reads it."""
    if isinstance(words, str):
        words = literal(words)
    if out.is_terminal:
        out.print(words, highlight=False)
    else:
        piped.print(words, highlight=False, soft_wrap=True)


def literal(words: str) -> Text:
    """Without markup, and without what a terminal would act on."""
    return Text("\n".join(map(printable, words.split("\n"))))


def json_text(data: Any, option: int = 0) -> str:
    """JSON of which nothing acts on a terminal. Raises `orjson.JSONEncodeError`."""
    return _ODD.sub(_escaped, orjson.dumps(data, option=option | orjson.OPT_SERIALIZE_NUMPY).decode())


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    return character if character.isprintable() else _dumps(character)[1:-1]


def rejects_and_late(rejects: int, late: int, codes: Mapping[str, int] | None = None) -> str:
    """As in "12 rejects (bad_number 10, late 2), 3 late events dropped"."""
    by_code = ", ".join(f"{code} {count:,}" for code, count in (codes or {}).items())
    text = f"{rejects:,} rejects" + (f" ({by_code})" if by_code else "")
    return text + (f", {late:,} late events dropped (see window.late)" if late else "")


def check_writable(path: Path | None, option: str) -> None:
    """Before long work. Raises `ConfigError` where no file can be made at `path`."""
    if path is None:
        return
    if path.is_dir():
        raise ConfigError(f"{option}: {path} is a folder; name a file")
    if not path.exists() and not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
        raise ConfigError(f"{option}: {path} cannot be written: its folder is not there, or is not yours to write")


@contextmanager
def progress(label: str) -> Iterator[Progress]:
    """A progress line on standard error; silent when standard error is not a terminal."""
    with Progress(
        SpinnerColumn(),
        TextColumn(label),
        BarColumn(),
        TextColumn("{task.fields[status]}"),
        TimeElapsedColumn(),
        console=err,
        disable=not err.is_terminal,
        transient=True,
    ) as bar:
        yield bar
