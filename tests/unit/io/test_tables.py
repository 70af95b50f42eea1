"""CSV and Parquet as JSON documents: the types of columns and cells."""

from __future__ import annotations

import csv
import datetime
import decimal
import gzip
import math
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stream_ad.io.files import Layout, rows
from stream_ad.io.tables import documents

LAYOUT = Layout("key", "timestamp")


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def values_of(path: Path) -> list[dict]:
    return [orjson.loads(row.value) for row in rows(path, LAYOUT)]


def test_a_csv_becomes_typed_json(tmp_path):
    path = written(
        tmp_path / "f.csv", "timestamp,key,amount,zip,shop\n2026-01-01T00:00:00Z,7,1.5,01234,NA\n2026-01-02,8,,99999,\n"
    )
    first, second = rows(path, LAYOUT)
    assert first.value == (b'{"timestamp":"2026-01-01T00:00:00Z","key":7,"amount":1.5,"zip":"01234","shop":"NA"}')
    assert second.value == b'{"timestamp":"2026-01-02","key":8,"amount":null,"zip":"99999","shop":null}'
    assert (first.key, first.time_ms, second.time_ms) == (b"7", 1_767_225_600_000, 1_767_312_000_000)


def test_a_column_has_one_type_from_the_first_cell_to_the_last(tmp_path):
    # the reader takes blocks of about a megabyte: what tells comes long after the first
    long = 100_000
    lines = ["1,1,1,x,name,0.5"] + [f"{i},{i},1,x{i},{i},{i}" for i in range(long)] + ["0.5,name,NaN,7,1,1"]
    path = tmp_path / "f.csv.gz"
    with gzip.open(path, "wt") as file:
        file.write("a,b,c,d,e,f\n" + "\n".join(lines))
    found = [value for value, _ in documents(path)]
    assert found[0] == b'{"a":1.0,"b":"1","c":1,"d":"x","e":"name","f":0.5}'
    assert found[1] == b'{"a":0.0,"b":"0","c":1,"d":"x0","e":"0","f":0.0}'
    assert found[-1] == b'{"a":0.5,"b":"name","c":null,"d":"7","e":"1","f":1.0}'
    assert len(found) == long + 2


@pytest.mark.parametrize(
    ("cell", "number"),
    [("0.00028345642334522235", True), ("-1234567890.1234567890123", True), ("9" * 18, True), ("9" * 19, False)],
)
def test_many_digits_after_the_point_are_a_number_and_in_an_integer_a_name(tmp_path, cell, number):
    path = written(tmp_path / "f.csv", f"key,x\na,{cell}\n")
    (row,) = rows(path, Layout("key", "t"))
    assert orjson.loads(row.value)["x"] == (orjson.loads(cell) if number else cell)


def test_a_dotted_column_is_a_nested_field(tmp_path):
    path = written(tmp_path / "f.csv", "key,device.temp,device.unit,a,a.b\nk,5,C,1,2\n")
    assert values_of(path) == [{"key": "k", "device": {"temp": 5, "unit": "C"}, "a": {"b": 2}}]


odd_cells = [
    " ",
    "\t5",
    "\u20035",
    " NaN",
    "null",
    "1e3",
    "0x1F",
    "007",
    " 5",
    "+5",
    "inf",
    "NA",
    "true",
    "-0",
    "1_000",
]
cells = (
    st.none() | st.integers(-(10**25), 10**25) | st.floats() | st.sampled_from(odd_cells)
    | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
)  # fmt: skip


@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=8))
@example([(5, 0)] * 2 + [(" ", "\u2003"), (" NaN", "\t")])
@example([(5, 1.5), ("\t5", " 5 "), ("null", "nan")])
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_csv_column_is_all_numbers_or_all_text(tmp_path, table):
    path = tmp_path / "f.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerows([("a", "b"), *(["" if cell is None else cell for cell in line] for line in table)])
    found = [orjson.loads(value) for value, _ in documents(path)]
    assert len(found) == len(table)
    for column, name in enumerate(("a", "b")):
        kinds = {type(line[name]) for line in found} - {type(None)}
        assert kinds <= {str} or kinds <= {int} or kinds <= {float}
        for line, cell in zip(found, (line[column] for line in table), strict=True):
            if kinds == {str} and isinstance(cell, str):
                assert line[name] == (cell or None)
            elif kinds <= {int, float} and line[name] is not None:
                assert float(cell) == float(line[name])  # a cell may be an integer that no float holds
            elif kinds <= {int, float} and kinds:
                assert cell in (None, "", "NA", "N/A", "null", "NULL", "None") or not math.isfinite(float(cell))


def test_parquet_keeps_its_types(tmp_path):
    moment = datetime.datetime(2026, 1, 1, 12, 0, 0, 250_000)
    table = pa.table(
        {
            "key": ["a", None],
            "n": pa.array([1, None], pa.int32()),
            "x": [math.nan, 0.1],
            "at": pa.array([moment, None], pa.timestamp("ns")),
            "zoned": pa.array([moment, None], pa.timestamp("ms", "Europe/Prague")),
            "price": [decimal.Decimal("9.50"), None],
            "raw": [b"a\xff", None],
            "inner": [{"deep": 5}, None],
        }
    )
    path = tmp_path / "f.parquet"
    pq.write_table(table, path)
    first, second = values_of(path)
    assert first == {
        "key": "a", "n": 1, "x": None, "at": "2026-01-01T12:00:00.250000", "zoned": "2026-01-01T12:00:00.250000Z",
        "price": 9.5, "raw": "a\\xff", "inner": {"deep": 5},
    }  # fmt: skip
    assert second["x"] == 0.1
    assert [row.key for row in rows(path, LAYOUT)] == [b"a", None]
    assert next(rows(path, Layout("inner.deep", "at"))).time_ms == 1_767_268_800_250
