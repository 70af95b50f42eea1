"""JSON objects to columns: a plain decoder, and a fast one that agrees with it on any bytes."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from types import NoneType
from typing import Any

import msgspec
import numpy as np
import orjson

from stream_ad.batch import I64, Bool, EventBatch, RawBatch, RejectBatch, Strings
from stream_ad.codec import columns as leaves
from stream_ad.codec import guard, hashing, names, timestamps
from stream_ad.codec.timestamps import END_MS
from stream_ad.config import Record
from stream_ad.errors import ConfigError
from stream_ad.paths import Way, ways

CHUNK_ROWS = 1000  # the processor's cache still holds the documents of so many rows when their columns are made
MAX_CATEGORY_BYTES = 256
_NOTHING = {NoneType, type(leaves.NO_OBJECT)}


class JsonCodec:
    """Decodes records that are one JSON object (RFC 8259, UTF-8) each.

    A field is a dotted path, as in `device.temp`: the field `temp` of the object `device`, or where there is none,
    the field whose name is `device.temp`. Unknown fields are ignored. A name must not be twice in an object.

    * numeric: a JSON number; missing or null is NaN; -0.0 becomes 0.0. With `numbers_as_text`
      decimal text too, where empty text is missing.
    * categorical: text, a 64-bit integer (5.0 too, which is 5) or a boolean, at most 256 bytes; missing or null is
      empty.
    * key: non-empty text or such an integer, at most `max_key_bytes`; `$key` is the record's key.
    * timestamp: see `codec.timestamps`; `$timestamp` is the record's own. From `record.earliest` on, and
      before `record.latest`: a single absurd time would move the partition's watermark for good.

    What does not fit is rejected with a reason that starts with one of: tombstone, bad_json,
    not_an_object, bad_key, bad_timestamp, bad_number, bad_category (the first that applies).
    Raises `ConfigError` for paths that cannot be.
    """

    def __init__(self, record: Record, numeric: Sequence[str], categorical: Sequence[str]) -> None:
        self._record = record
        self._numeric = tuple(numeric)
        self._categorical = tuple(categorical)
        named = {
            **({} if record.key == "$key" else {record.key: "record.key"}),
            **({} if record.timestamp == "$timestamp" else {record.timestamp: "record.timestamp"}),
            **dict.fromkeys(self._numeric, "features.numeric"),
            **dict.fromkeys(self._categorical, "features.categorical"),
        }
        for field, key in named.items():
            if not field:
                raise ConfigError(f"{key}: '' is not a path; it is names joined by dots, as in device.temp")
        self._column = {field: column for column, field in enumerate(named)}
        self._ways = [ways(field) for field in named]
        self._tree = _tree([way for of_field in self._ways for way in of_field])
        self._lines = None if self._tree is None else _line_decoder(self._tree)

    def decode(self, raw: RawBatch) -> tuple[EventBatch, RejectBatch]:
        rows: list[int] = []
        columns: list[list[Any]] = [[] for _ in self._ways]
        rejected: dict[int, str] = {}
        for first in range(0, len(raw), CHUNK_ROWS):
            chunk = raw.value[first : first + CHUNK_ROWS]
            leaves = self.fast(chunk)
            if leaves is None:
                kept, leaves, failed = self.plain(chunk)
                rows += [first + row for row in kept]
                rejected |= {first + row: reason for row, reason in failed.items()}
            else:
                rows += range(first, first + len(chunk))
            for column, part in zip(columns, leaves, strict=True):
                column += part
        return self._batches(raw, np.array(rows, np.int64), columns, rejected)

    def encode(self, key: bytes, ts_ms: int, values: Sequence[float], cats: Sequence[bytes]) -> bytes:
        """One such record, as `stream_ad.testing.Encoder` says."""
        leaves = {
            self._record.key: key.decode(),
            self._record.timestamp: timestamps.written(ts_ms, self._record.timestamp_format),
            **dict(zip(self._numeric, values, strict=True)),
            **dict(zip(self._categorical, (cat.decode() for cat in cats), strict=True)),
        }
        document: dict[str, Any] = {}
        for field in self._column:
            *parents, name = ways(field)[0]
            node = document
            for parent in parents:
                node = node.setdefault(parent, {})
            node[name] = leaves[field]
        return orjson.dumps(document)

    def plain(self, values: Sequence[bytes | None]) -> tuple[list[int], list[list[Any]], dict[int, str]]:
        """The reference: one document at a time. Rows that are objects, their leaves by path, reasons of the rest."""
        rows: list[int] = []
        documents: list[dict[str, Any]] = []
        rejected: dict[int, str] = {}
        for row, value in enumerate(values):
            if value is None:
                rejected[row] = "tombstone: the record has no value"
                continue
            try:
                document = orjson.loads(value)
            except ValueError as error:
                rejected[row] = f"bad_json: {error}" if value else "bad_json: the value is empty"
                continue
            if type(document) is not dict:
                rejected[row] = f"not_an_object: the value {leaves.described(document)}"
                continue
            twice = names.repeated(value)
            if twice is not None:
                rejected[row] = f"bad_json: {twice[:100]!r} is there twice"
                continue
            rows.append(row)
            documents.append(document)
        columns = [_first([_leaves(documents, way) for way in of_field]) for of_field in self._ways]
        return rows, columns, rejected

    def fast(self, values: Sequence[bytes | None]) -> list[list[Any]] | None:
        """The same leaves for all rows at once, or None: then one of them needs the plain way."""
        if self._tree is None or self._lines is None or not values:
            return None
        try:
            lines = b"\n".join(values)  # type: ignore[arg-type]
        except TypeError:
            return None  # a tombstone
        if not guard.safe(lines):
            return None
        try:
            documents = self._lines.decode_lines(lines)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None
        if len(documents) != len(values):
            return None  # several in one value
        columns: list[list[Any]] = [[] for of_field in self._ways for _ in of_field]
        self._spread(self._tree, documents, columns)
        taken = iter(columns)
        return [_first([next(taken) for _ in of_field]) for of_field in self._ways]

    def _spread(self, tree: _Tree, documents: list[Any], columns: list[list[Any]]) -> None:
        for place, child in enumerate(tree.values()):
            take = attrgetter(f"f{place}")
            if tree is self._tree:
                members = list(map(take, documents))
            else:
                members = [None if document is None else take(document) for document in documents]
            if isinstance(child, int):
                columns[child] = members
            else:
                self._spread(child, members, columns)

    def _batches(
        self, raw: RawBatch, row: I64, columns: list[list[Any]], rejected: dict[int, str]
    ) -> tuple[EventBatch, RejectBatch]:
        """Columns from the leaves [n] of `row` [n]; `rejected` (rows of `raw`) takes what does not fit."""
        record = self._record

        def leaf(field: str) -> list[Any]:
            return columns[self._column[field]]

        def reject(code: str, field: str, misfits: leaves.Misfits) -> None:
            for at, what in misfits.items():
                rejected.setdefault(int(row[at]), f"{code}: {field}: {what}")

        misfits: leaves.Misfits
        if record.key == "$key":
            key, misfits = Strings.of([raw.key[at] or b"" for at in row.tolist()]), {}
        else:
            key, misfits = leaves.texts(leaf(record.key), bools=False)
        reject("bad_key", record.key, misfits)
        reject("bad_key", record.key, _outside(key, 1, record.max_key_bytes))

        if record.timestamp == "$timestamp":
            ts_ms = raw.timestamp_ms[row]
            out = np.flatnonzero((ts_ms < 0) | (ts_ms >= END_MS)).tolist()
            misfits = dict.fromkeys(out, "the record has no timestamp between 1970 and 2261")
        else:
            ts_ms, misfits = leaves.times_ms(leaf(record.timestamp), record.timestamp_format, record.numbers_as_text)
        reject("bad_timestamp", record.timestamp, misfits)
        reject("bad_timestamp", record.timestamp, _untimely(ts_ms, record))

        values = np.empty((len(row), len(self._numeric)))
        for column, field in enumerate(self._numeric):
            values[:, column], misfits = leaves.numbers(leaf(field), record.numbers_as_text)
            reject("bad_number", field, misfits)

        cats = []
        for field in self._categorical:
            cat, misfits = leaves.texts(leaf(field), bools=True)
            reject("bad_category", field, misfits)
            reject("bad_category", field, _outside(cat, 0, MAX_CATEGORY_BYTES))
            cats.append(cat)

        if rejected:
            keep = ~np.isin(row, np.fromiter(rejected, np.int64, len(rejected)))
            row, ts_ms, values = row[keep], ts_ms[keep], values[keep]
            key, cats = _kept(key, keep), [_kept(cat, keep) for cat in cats]
        codes = np.empty((len(row), len(cats)), np.uint64)
        for column, cat in enumerate(cats):
            codes[:, column] = hashing.codes(cat)
        events = EventBatch(raw, row, raw.offset[row], ts_ms, key, values, tuple(cats), codes)
        order = sorted(rejected)
        return events, RejectBatch(raw, order, [rejected[at] for at in order])


class _Tree(dict[str, "_Tree | int"]):
    """The objects on the ways to the fields: name -> subtree, or the number of the way that ends there."""


def _tree(all_ways: Sequence[Way]) -> _Tree | None:
    """None where a way ends within another one, as of the fields `a` and `a.b`."""
    root = _Tree()
    for number, (*parents, name) in enumerate(all_ways):
        node = root
        for parent in parents:
            child = node.setdefault(parent, _Tree())
            if isinstance(child, int):
                return None
            node = child
        if name in node:
            return None
        node[name] = number
    return root


def _line_decoder(tree: _Tree) -> msgspec.json.Decoder[Any] | None:
    """None where a name cannot be matched against the bytes as they are."""
    try:
        return msgspec.json.Decoder(_struct(tree))
    except ValueError:
        return None


def _struct(tree: _Tree) -> type[msgspec.Struct]:
    # fields are typed Any: leaves then come out as the plain decoder's do, and are checked by the same code
    fields = [
        (f"f{place}", Any if isinstance(child, int) else _struct(child) | None, None)
        for place, child in enumerate(tree.values())
    ]
    names = {f"f{place}": name for place, name in enumerate(tree)}
    return msgspec.defstruct("Fields", fields, rename=names, gc=False)


def _first(readings: list[list[Any]]) -> list[Any]:
    """The leaves [n] of a field's first reading; of the next ones where that leads nowhere."""
    found, *others = readings
    for other in others:
        if not set(map(type, other)) <= _NOTHING:
            found = [
                one if type(leaf) in _NOTHING and type(one) not in _NOTHING else leaf
                for leaf, one in zip(found, other, strict=True)
            ]
    return found


def _leaves(documents: list[dict[str, Any]], way: Way) -> list[Any]:
    first, *rest = way
    members = [document.get(first) for document in documents]
    for name in rest:
        members = [_member(node, name) for node in members]
    return members


def _member(node: Any, name: str) -> Any:
    if type(node) is dict:
        return node.get(name)
    return None if node is None else leaves.NO_OBJECT


def _untimely(ts_ms: I64, record: Record) -> leaves.Misfits:
    misfits = {}
    for row in np.flatnonzero((ts_ms < record.earliest) | (ts_ms >= record.latest)).tolist():
        bound = "before record.earliest" if ts_ms[row] < record.earliest else "not before record.latest"
        misfits[row] = f"is {np.datetime64(int(ts_ms[row]), 'ms')}Z, {bound}"
    return misfits


def _outside(column: Strings, least_bytes: int, most_bytes: int) -> leaves.Misfits:
    size = np.diff(column.start)
    misfits = dict.fromkeys(np.flatnonzero(size < least_bytes).tolist(), "is missing or empty")
    for at in np.flatnonzero(size > most_bytes).tolist():
        misfits[at] = f"has {size[at]} bytes, at most {most_bytes} are allowed"
    return misfits


def _kept(column: Strings, keep: Bool) -> Strings:
    size = np.diff(column.start)
    start = np.zeros(int(keep.sum()) + 1, np.int64)
    np.cumsum(size[keep], out=start[1:])
    return Strings(column.data[np.repeat(keep, size)], start)
