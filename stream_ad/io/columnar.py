"""Parquet as documents: each type of column as JSON has it."""

from __future__ import annotations

import decimal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from stream_ad.errors import InputError

_CHUNK_ROWS = 8192
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def documents(path: Path, say: Callable[[str], None]) -> Iterator[tuple[bytes, Any]]:
    """Each row's JSON bytes and the decoded document. Times are ISO 8601 text, durations are seconds.

    `say` is told of a column that has no form in JSON, which is left out. Raises `InputError`, `OSError`,
    `pyarrow.ArrowException`.
    """
    file = pyarrow.parquet.ParquetFile(path, coerce_int96_timestamp_unit="us")
    names = file.schema_arrow.names
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"{path}: {', '.join(repeated)} names two columns; rename one")
    left_out: set[str] = set()
    for batch in file.iter_batches(batch_size=_CHUNK_ROWS):
        columns: dict[str, list[Any]] = {}
        for name, column in zip(names, batch.columns, strict=True):
            if name not in left_out:
                try:
                    columns[name] = _json_column(column)
                except (pa.ArrowException, orjson.JSONEncodeError, ValueError, TypeError, OverflowError) as error:
                    left_out.add(name)
                    say(f"{name} is left out: a column of type {column.type} cannot be read: {error}")
        if not columns:
            yield from ((b"{}", {}) for _ in range(batch.num_rows))
        for cells in zip(*columns.values(), strict=True):
            document = dict(zip(columns, cells, strict=True))
            yield orjson.dumps(document), document


def _json_column(column: pa.Array) -> list[Any]:
    """The cells as what `orjson.loads` would give of them."""
    column = _plain(column)
    if pa.types.is_string(column.type) or pa.types.is_integer(column.type) or pa.types.is_boolean(column.type):
        plain: list[Any] = column.to_pylist()
        return plain
    cells: list[Any] = orjson.loads(orjson.dumps(column.to_pylist(), default=_text))
    return cells


def _plain(column: pa.Array) -> pa.Array:
    """Types for which Python or JSON has no word, as text or numbers; also within objects."""
    dtype = column.type
    if isinstance(dtype, pa.DictionaryType):
        return _plain(column.dictionary_decode())
    if pa.types.is_struct(dtype):
        fields = [_plain(field) for field in column.flatten()]
        return pa.StructArray.from_arrays(fields, [field.name for field in dtype], mask=column.is_null())
    if pa.types.is_timestamp(dtype):
        cut = column.cast(pa.timestamp("us", "UTC" if dtype.tz else None), safe=False)
        return pc.replace_substring(cut.cast(pa.string()), " ", "T")
    if pa.types.is_duration(dtype):
        return pc.divide(column.cast(pa.int64()).cast(pa.float64(), safe=False), float(_PER_SECOND[dtype.unit]))
    if pa.types.is_date(dtype) or pa.types.is_time(dtype):
        return column.cast(pa.string())
    if pa.types.is_float16(dtype):
        return column.cast(pa.float64())
    if pa.types.is_string(dtype) or pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype):
        text = column.cast(pa.string())
        return pc.if_else(pc.equal(text, ""), None, text)
    return column


def _text(value: object) -> object:
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)
