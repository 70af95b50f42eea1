"""CSV, JSON Lines and Parquet files as JSON documents."""

from __future__ import annotations

import decimal
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from stream_ad.errors import InputError

SUFFIXES = ".csv, .jsonl (also .ndjson, .json) or .parquet; .csv and .jsonl also with .gz"

_CHUNK_ROWS = 8192
_NULLS = ["", "NaN", "nan", "NAN", "NA", "N/A", "null", "NULL", "None"]
# a cell with leading zeros, or an integer with more digits than 64 bits hold, is a name, though it looks like a number
_NAME_LIKE = r"^[+-]?(0[0-9xX]|[0-9]{19,}$)"


def documents(path: Path) -> Iterator[tuple[bytes, Any]]:
    """Each record's JSON bytes and the decoded document (None where malformed). Raises `InputError`."""
    name = path.name.lower().removesuffix(".gz")
    try:
        if name.endswith((".jsonl", ".ndjson", ".json")):
            yield from _lines(path)
        elif name.endswith(".csv"):
            yield from _documents(_csv(path))
        elif name.endswith(".parquet") and path.suffix.lower() != ".gz":
            parquet = pyarrow.parquet.ParquetFile(path)
            yield from _documents(parquet.iter_batches(batch_size=_CHUNK_ROWS))
        else:
            raise InputError(f"{path}: the name does not tell the format; one of {SUFFIXES}")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, EOFError, UnicodeError, zlib.error, pa.ArrowException, orjson.JSONEncodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None


def _lines(path: Path) -> Iterator[tuple[bytes, Any]]:
    with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as file:
        for line in file:
            value = line.removesuffix(b"\n")
            if value.strip():
                try:
                    yield value, orjson.loads(value)
                except orjson.JSONDecodeError:
                    yield value, None


def _csv(path: Path) -> Iterator[pa.RecordBatch]:
    """Columns of text; those are numeric in which every cell of the file is a number or empty."""
    try:
        names = pyarrow.csv.open_csv(path).schema.names
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: not a CSV file with a header: {error}") from None
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"{path}: the header names {', '.join(repeated)} twice; rename one")
    texts = dict.fromkeys(names, pa.string())
    types: dict[str, pa.DataType] = {}
    for batch in _csv_batches(path, texts):
        for name, column in zip(names, batch.columns, strict=True):
            types[name] = _wider(types.get(name), column)
    # a column of empty cells only is null, whatever its type
    numeric = {name: dtype for name, dtype in types.items() if dtype is not None}
    return _csv_batches(path, texts | numeric)


def _csv_batches(path: Path, types: dict[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
    convert = pyarrow.csv.ConvertOptions(column_types=types, null_values=_NULLS)
    with pyarrow.csv.open_csv(path, parse_options=parse, convert_options=convert) as reader:
        yield from reader


def _wider(known: pa.DataType | None, column: pa.Array) -> pa.DataType | None:
    """The type that also holds `column`: int64, float64 or string; None while all cells are empty."""
    if known == pa.string():
        return known
    cells = column.filter(pc.invert(pc.is_in(column, pa.array(_NULLS))))
    cells = pc.utf8_trim(cells, " \t")  # as the reader trims numbers; it does not trim the words for null
    if not len(cells):
        return known
    if not pc.any(pc.match_substring_regex(cells, _NAME_LIKE)).as_py():
        for dtype in (pa.int64(), pa.float64()):
            if known == pa.float64() and dtype == pa.int64():
                continue
            try:
                cells.cast(dtype)
            except pa.ArrowInvalid:
                continue
            return dtype
    return pa.string()


def _documents(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[bytes, Any]]:
    for batch in batches:
        names = batch.schema.names
        paths = [name.split(".") for name in names]
        flat = all(len(path) == 1 for path in paths)
        columns = [_plain_column(column).to_pylist() for column in batch.columns]
        for cells in zip(*columns, strict=True):
            document = dict(zip(names, cells, strict=True)) if flat else _nested(paths, cells)
            yield orjson.dumps(document, default=_plain), document


def _plain_column(column: pa.Array) -> pa.Array:
    if pa.types.is_timestamp(column.type):
        zone = column.type.tz
        return pc.replace_substring(
            column.cast(pa.timestamp("us", "UTC" if zone else None)).cast(pa.string()), " ", "T"
        )
    if pa.types.is_string(column.type):
        return pc.if_else(pc.equal(column, ""), None, column)
    return column


def _nested(paths: list[list[str]], cells: tuple[Any, ...]) -> dict[str, Any]:
    """A column called `device.temp` is the field `temp` of the object `device`, as dotted paths read it."""
    document: dict[str, Any] = {}
    for (*parents, name), cell in zip(paths, cells, strict=True):
        node = document
        for parent in parents:
            child = node.setdefault(parent, {})
            if not isinstance(child, dict):
                child = node[parent] = {}
            node = child
        node[name] = cell
    return document


def _plain(value: object) -> object:
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)
