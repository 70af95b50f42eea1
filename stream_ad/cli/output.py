"""How commands answer: text on a terminal, or one JSON document."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from stream_ad.errors import ConfigError

out = Console()
err = Console(stderr=True)


def answer(data: Any, json: bool, words: str) -> None:
    """Prints `data` as JSON, or `words`, to standard output."""
    if json:
        sys.stdout.write(orjson.dumps(data, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY).decode() + "\n")
    else:
        out.print(words, highlight=False)


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
