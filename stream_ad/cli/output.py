"""How commands answer: text on a terminal, or one JSON document."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

out = Console()
err = Console(stderr=True)


def answer(data: Any, json: bool, words: str) -> None:
    """Prints `data` as JSON, or `words`, to standard output."""
    if json:
        sys.stdout.write(orjson.dumps(data, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY).decode() + "\n")
    else:
        out.print(words, highlight=False)


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
