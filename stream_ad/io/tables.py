"""CSV, JSON Lines and Parquet files as JSON documents."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

import orjson
import pyarrow as pa

from stream_ad.errors import InputError
from stream_ad.io import columnar, delimited

_NAMED = ".csv, .tsv, .jsonl (also .ndjson, .json) or .parquet; all but .parquet also with .gz"
_HEAD_LINES = 20
_HINT = "one JSON object per line is needed (`jq -c '.[]'` makes that of an array, `jq -c .` of anything else)"


def documents(path: Path, say: Callable[[str], None] = lambda text: None) -> Iterator[tuple[bytes, Any]]:
    """Each record's JSON bytes and the decoded document (None where malformed). Raises `InputError`.

    `say` is told, in a sentence each, what of the file is not read as it stands.
    """
    name = path.name.lower().removesuffix(".gz")
    try:
        if name.endswith((".jsonl", ".ndjson", ".json")):
            yield from _lines(path)
        elif name.endswith((".csv", ".tsv")):
            yield from delimited.documents(path, say)
        elif name.endswith(".parquet") and path.suffix.lower() != ".gz":
            yield from columnar.documents(path, say)
        else:
            raise InputError(f"{path}: the name does not tell the format; one of {_NAMED}")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, EOFError, UnicodeError, zlib.error, csv.Error, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None


def _lines(path: Path) -> Iterator[tuple[bytes, Any]]:
    with _open(path) as file:
        _check_lines(path, file)
    with _open(path) as file:
        for number, line in enumerate(file):
            value = line.removesuffix(b"\n")
            if number == 0:
                value = value.removeprefix(b"\xef\xbb\xbf")
            if value.strip():
                try:
                    yield value, orjson.loads(value)
                except orjson.JSONDecodeError:
                    yield value, None


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb"))


def _check_lines(path: Path, file: IO[bytes]) -> None:
    """Raises `InputError` for JSON of another shape. A line that is malformed among others is a record of its own."""
    lines = ((number, line.removeprefix(b"\xef\xbb\xbf").strip()) for number, line in enumerate(file, 1))
    head = list(islice(((number, line) for number, line in lines if line), _HEAD_LINES))
    places = [(number, where) for number, line in head if (where := _misfit(line)) is not None]
    if places and len(places) + (len(head) > 3) >= len(head):
        number, where = places[0]
        raise InputError(f"{path}: line {number}, {where}; {_HINT}")


def _misfit(line: bytes) -> str | None:
    """Where and why a line is not one JSON object; None if it is."""
    try:
        value = orjson.loads(line)
        return None if type(value) is dict else f"column 1: {_KINDS.get(type(value), 'a value')} and no object"
    except orjson.JSONDecodeError:
        pass
    text = line.decode("utf-8", "replace")
    try:
        _, end = json.JSONDecoder().raw_decode(text)
        return f"column {end + 1}: {text[end : end + 10]!r} follows the first value"
    except json.JSONDecodeError as error:
        return f"column {error.colno}: {error.msg.removesuffix(' at')}"
    except RecursionError:
        return "column 1: nested too deeply"


_KINDS = {list: "an array", str: "a text", int: "a number", float: "a number"}
