"""CSV and its relatives as documents, cell by cell: a cell that is no number stays text, and hurts nobody else."""

from __future__ import annotations

import csv
import gzip
import math
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO, TypeAlias

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from stream_ad.batch import I64
from stream_ad.errors import InputError

Style: TypeAlias = int  # of a column's numbers: an index of `_STYLES`; `_TEXT` = its cells are text

_CHUNK_ROWS = 8192
_MOST_LINES = 1000  # of a record, by line breaks in its quotes; a quote that closes later was never meant to open
_HEAD_BYTES = 65_536
_HEAD_LINES = 50
_DELIMITERS = ";\t|,"
_NULLS = frozenset(("", "NaN", "nan", "NAN", "NA", "N/A", "null", "NULL", "None"))
# a cell with leading zeros, or an integer with more digits than 64 bits hold, is a name, though it looks like a number
_NAME_LIKE = r"^[+-]?(0[0-9]|[0-9]{20,}$)"
_MOST_NAMES = 0.01  # share of such cells above which all cells of a column of integers are names
_GAP = "[ \u00a0\u2009\u202f'’]"
_POINT, _THOUSANDS, _COMMA, _TEXT = 0, 1, 2, 3
_STYLES = (
    r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$",  # 1234.5
    rf"^[+-]?(?:0|[1-9]\d{{0,2}}(?:(?:,|{_GAP})\d{{3}})*)(?:\.\d+)?$",  # 1,234.5
    r"^[+-]?(?:\d+(?:,\d+)?|[1-9]\d{0,2}(?:\.\d{3})+,\d+|[1-9]\d{0,2}(?:\.\d{3}){1,2}"  # 1234,5 or 1.234,5
    rf"|[1-9]\d{{0,2}}(?:{_GAP}\d{{3}})+(?:,\d+)?)(?:[eE][+-]?\d+)?$",
)
_WRITTEN = tuple(re.compile(style, re.ASCII) for style in _STYLES)
_NAMES = re.compile(_NAME_LIKE, re.ASCII)
_PARTED = ("", rf",|{_GAP}", rf"\.|{_GAP}")
_SEEN, _NAMED, _COMMAS, _INTEGERS = 3, 4, 5, 6  # columns of a tally, behind those of the styles

csv.field_size_limit(1 << 30)


@dataclass(frozen=True, slots=True)
class Dialect:
    delimiter: str
    quote: str
    encoding: str
    spaced: bool  # a blank follows each delimiter
    told: bool  # the first line is Excel's `sep=;`


def documents(path: Path, say: Callable[[str], None]) -> Iterator[tuple[bytes, Any]]:
    """Each row's JSON bytes and the decoded document; a row with other cells than the header is its text, and None.

    A column is numeric where most of its cells are numbers; then each of them that is one becomes one. `say` is told
    how the file was read where that is not plain. Raises `InputError`, `OSError`, `UnicodeError`.
    """
    dialect = _dialect(path)
    names = _names(path, dialect)
    if dialect.delimiter != ",":
        mark = {"\t": "tabs"}.get(dialect.delimiter, dialect.delimiter)
        say(f"columns are separated by {mark}")
    styles = _styles(path, dialect, names, say)
    for rows in _chunks(path, dialect):
        whole = [row for row in rows if len(row) == len(names)]
        columns = [_column(cells, style) for cells, style in zip(zip(*whole, strict=True), styles, strict=False)]
        table = zip(*columns, strict=True)
        for row in rows:
            if len(row) != len(names):
                yield dialect.delimiter.join(row).encode("utf-8", "surrogateescape"), None
                continue
            document = dict(zip(names, next(table), strict=True))
            try:
                yield orjson.dumps(document), document
            except orjson.JSONEncodeError:  # bytes that are not UTF-8: no JSON either, as from Kafka
                yield dialect.delimiter.join(row).encode("utf-8", "surrogateescape"), None


def _open(path: Path, encoding: str) -> TextIO:
    errors = "surrogateescape" if encoding.startswith("utf-8") else "replace"
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding=encoding, errors=errors, newline="")
    return path.open(encoding=encoding, errors=errors, newline="")


def _dialect(path: Path) -> Dialect:
    """By the beginning of the file: the delimiter that parts most of its lines as it parts the first one."""
    with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as file:
        begin = file.read(2)
    encoding = "utf-16" if begin in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    with _open(path, encoding) as text:
        head = text.read(_HEAD_BYTES)
    lines = [line for line in re.split(r"\r\n|\n|\r", head) if line.strip()][:_HEAD_LINES]
    told = bool(lines) and re.fullmatch(r'"?sep=."?', lines[0]) is not None
    quote = "'" if lines[told:] and lines[told].startswith("'") else '"'
    delimiters = lines[0].strip('"')[4] if told else _DELIMITERS
    best, rank = delimiters[-1], (0.0, 1)
    for delimiter in delimiters:
        rows = list(csv.reader(lines[told:], delimiter=delimiter, quotechar=quote))
        widths = [len(row) for row in rows]
        if widths and widths[0] > 1 and (widths.count(widths[0]) / len(widths), widths[0]) > rank:
            best, rank = delimiter, (widths.count(widths[0]) / len(widths), widths[0])
    header = next(csv.reader(lines[told:], delimiter=best, quotechar=quote), [""])
    return Dialect(best, quote, encoding, len(header) > 1 and all(name[:1] == " " for name in header[1:]), told)


def _names(path: Path, dialect: Dialect) -> list[str]:
    with _open(path, dialect.encoding) as file:
        header = next(_records(file, dialect), None)
    if header is None:
        raise InputError(f"{path}: not a CSV file with a header: it is empty")
    if any("\udc80" <= letter <= "\udcff" for name in header for letter in name):
        raise InputError(f"{path}: the header is not UTF-8; convert the file, as in `iconv -f latin1 -t utf-8`")
    names = [name or f"column {number}" for number, name in enumerate(header, 1)]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"{path}: the header names {', '.join(repeated)} twice; rename one")
    return names


def _chunks(path: Path, dialect: Dialect) -> Iterator[list[list[str]]]:
    with _open(path, dialect.encoding) as file:
        records = _records(file, dialect)
        width = len(next(records, []))
        while rows := list(islice(records, _CHUNK_ROWS)):
            if set(map(len, rows)) != {width}:
                rows = [_trimmed(row, width) for row in rows]
            yield rows


def _trimmed(row: list[str], width: int) -> list[str]:
    return row[:width] if len(row) > width and not any(row[width:]) else row


class _Unclosed(Exception):
    """A quote opens a cell, and none closes it."""


def _records(file: TextIO, dialect: Dialect) -> Iterator[list[str]]:
    """The cells of each record, blank lines left out. A line whose quote is never closed is a record of one cell."""
    lines = islice(file, int(dialect.told), None)
    again: deque[str] = deque()  # lines to be read before the others
    taken: list[str] = []  # of this record

    def feed() -> Iterator[str]:
        while (line := again.popleft() if again else next(lines, None)) is not None:
            taken.append(line)
            if len(taken) > _MOST_LINES:
                raise _Unclosed
            yield line
        if taken:
            raise _Unclosed

    while True:
        reader = csv.reader(
            feed(), delimiter=dialect.delimiter, quotechar=dialect.quote, skipinitialspace=dialect.spaced
        )
        try:
            for row in reader:
                taken.clear()
                if len(row) > 1 or (row and row[0].strip()):
                    yield row
            return
        except _Unclosed:
            first, *rest = taken
            taken.clear()
            again.extendleft(reversed(rest))
            yield [first.rstrip("\r\n")]


# ── what the cells of a column are ───────────────────────────────────────────────────────────


def _styles(path: Path, dialect: Dialect, names: Sequence[str], say: Callable[[str], None]) -> list[Style]:
    """How the numbers of each column are written, by all of its cells; a column of one style is no other's."""
    tally = np.zeros((len(names), _INTEGERS + 1), np.int64)
    for rows in _chunks(path, dialect):
        whole = [row for row in rows if len(row) == len(names)]
        for counts, cells in zip(tally, zip(*whole, strict=True), strict=False):
            counts += _counted(cells, dialect)
    european = any(counts[_COMMA] > max(counts[:_COMMA]) for counts in tally)
    styles = []
    for name, counts in zip(names, tally, strict=True):
        style = _style(counts, european or dialect.delimiter == ";", european)
        if style is None:
            say(f"{name} may be written with decimal commas or with thousands separators, so it is left as text")
        elif style in (_COMMA, _THOUSANDS):
            form = "1234.5 is written 1.234,5 or 1234,5" if style == _COMMA else "1234.5 is written 1,234.5"
            say(f"{name} is read as numbers in which {form}")
        styles.append(_TEXT if style is None else style)
    return styles


def _counted(cells: Sequence[str], dialect: Dialect) -> I64:
    counts = np.zeros(_INTEGERS + 1, np.int64)
    numbers = _json_numbers(cells)
    if numbers is not None:
        seen = [cell for cell in cells if cell not in _NULLS]
        counts[_POINT] = counts[_SEEN] = len(seen)
        counts[_INTEGERS] = list(map(type, numbers)).count(int)
        if dialect.delimiter != ",":
            counts[_COMMA] = sum(bool(_WRITTEN[_COMMA].match(cell)) for cell in seen)
        return counts
    known = [cell.strip(" \t") for cell in cells if cell not in _NULLS]
    try:
        column = pa.array(known, pa.string())
    except UnicodeEncodeError:
        column = pa.array([cell.encode("utf-8", "replace").decode() for cell in known], pa.string())

    def matches(pattern: str) -> int:
        return int(pc.sum(pc.match_substring_regex(column, pattern)).as_py() or 0)

    for style, pattern in enumerate(_STYLES):
        counts[style] = matches(pattern)
    counts[_SEEN], counts[_NAMED] = len(known), matches(_NAME_LIKE)
    counts[_INTEGERS] = matches(r"^[+-]?\d+$")
    counts[_COMMAS] = matches(r"^[+-]?[1-9]\d{0,2}(?:,\d{3})+$")
    return counts


def _style(counts: I64, by_comma: bool, european: bool) -> Style | None:
    """None where decimal commas and thousands separators cannot be told apart."""
    point, thousands, comma, seen, named, commas, integers = counts.tolist()
    best = max(point, thousands, comma)
    if best * 2 <= seen or (named > _MOST_NAMES * seen and integers * 2 > seen):
        return _TEXT
    if point == best:
        return _COMMA if comma == best and european and integers < best else _POINT
    if thousands != comma:
        return _COMMA if comma > thousands else _THOUSANDS
    if not commas or comma > commas:
        return _COMMA if european else _THOUSANDS
    return _COMMA if by_comma else None


# ── cells as JSON ────────────────────────────────────────────────────────────────────────────


def _column(cells: Sequence[str], style: Style) -> Sequence[Any]:
    if style == _TEXT:
        return [cell or None for cell in cells]
    numbers = _json_numbers(cells) if style == _POINT else None
    return [_typed(cell, style) for cell in cells] if numbers is None else numbers


def _json_numbers(cells: Sequence[str]) -> list[Any] | None:
    """The cells, where each is a number as JSON has them, or empty."""
    texts = ["null" if cell in _NULLS else cell for cell in cells]
    if max(map(len, texts)) > 18 and any(len(text) > 18 and text.strip("+- ").isdigit() for text in texts):
        return None
    try:
        numbers = orjson.loads(f"[{','.join(texts)}]")
    except (orjson.JSONDecodeError, UnicodeError):
        return None
    return numbers if len(numbers) == len(cells) and set(map(type, numbers)) <= {int, float, type(None)} else None


def _typed(cell: str, style: Style) -> Any:
    if cell in _NULLS:
        return None
    text = cell.strip(" \t")
    if not _WRITTEN[style].match(text) or _NAMES.match(text):
        return cell
    if style != _POINT:
        text = re.sub(_PARTED[style], "", text).replace(",", ".")
    if text.lstrip("+-").isdigit():
        return int(text) if -(2**63) <= int(text) < 2**63 else cell
    return float(text) if math.isfinite(float(text)) else cell
