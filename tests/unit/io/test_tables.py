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


def test_a_column_is_numeric_by_all_of_its_cells_and_each_cell_is_its_own(tmp_path):
    # what tells may come long after the first chunk
    long = 20_000
    lines = ["x,1,1,x,name,0.5"] + [f"x,{i},1,x{i},{i},{i}" for i in range(long)] + ["0.5,name,NaN,7,1,ERR"]
    path = tmp_path / "f.csv.gz"
    with gzip.open(path, "wt") as file:
        file.write("a,b,c,d,e,f\n" + "\n".join(lines))
    found = [value for value, _ in documents(path)]
    assert found[0] == b'{"a":"x","b":1,"c":1,"d":"x","e":"name","f":0.5}'
    assert found[1] == b'{"a":"x","b":0,"c":1,"d":"x0","e":0,"f":0}'
    assert found[-1] == b'{"a":"0.5","b":"name","c":null,"d":"7","e":1,"f":"ERR"}'
    assert len(found) == long + 2


def test_a_cell_or_a_line_that_does_not_fit_leaves_its_neighbours_as_they_are(tmp_path):
    good = [f"k{i % 3},{i}.5" for i in range(40)]
    odd = ["k0,ERR", "key,temp", "total", "a,b,c", "k1,007", 'k2,"9', "k\xe9,1.5"]
    path = tmp_path / "f.csv"
    path.write_bytes("\n".join(["key,temp", *good[:20], *odd, "", *good[20:]]).encode("latin1"))
    found = list(documents(path))
    numbers = [document["temp"] for _, document in found if document and type(document["temp"]) is not str]
    assert numbers == [i + 0.5 for i in range(40)]
    assert [value for value, _ in found[20:27]] == [
        b'{"key":"k0","temp":"ERR"}', b'{"key":"key","temp":"temp"}', b"total", b"a,b,c",
        b'{"key":"k1","temp":"007"}', b'k2,"9', b"k\xe9,1.5",
    ]  # fmt: skip


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", list(",;\t|"))
@pytest.mark.parametrize("quote", list("\"'"))
def test_any_dialect_gives_the_same_records(tmp_path, delimiter, quote, encoding):
    table = [("at", "who", "x, y", "n"), *((f"2026-01-01T00:00:0{i}Z", "a;b|c\td,\ne", "", str(i)) for i in range(9))]
    path = tmp_path / "f.csv"
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter, quotechar=quote, quoting=csv.QUOTE_ALL).writerows(table)
    assert [orjson.loads(value) for value, _ in documents(path)] == [
        {"at": f"2026-01-01T00:00:0{i}Z", "who": "a;b|c\td,\ne", "x, y": None, "n": i} for i in range(9)
    ]


@pytest.mark.parametrize(
    ("cells", "numbers", "said"),
    [
        (["20,5", "1.950,0", "7"], [20.5, 1950, 7], "1.234,5"),
        (["1,234.5", "20", "2,000,000"], [1234.5, 20, 2_000_000], "1,234.5"),
        (["1 234,5", "12 345 678", "0,25"], [1234.5, 12_345_678, 0.25], "1.234,5"),
        (["950", "1,234", "12"], [950, 1234, 12], "1,234.5"),
        (["3,790", "3,801", "4,002"], ["3,790", "3,801", "4,002"], "may be written"),
        (["20,5", "ERR", "21,5"], [20.5, "ERR", 21.5], "1.234,5"),
        (["192.168.100.200"] * 3, ["192.168.100.200"] * 3, ""),
        (["1.234", "2.5", "3"], [1.234, 2.5, 3], ""),
        ([str(10**18 * 17 // 10 + i) for i in range(3)], [10**18 * 17 // 10 + i for i in range(3)], ""),
    ],
)
def test_numbers_as_people_write_them_are_found_or_said(tmp_path, cells, numbers, said):
    path, notes = tmp_path / "f.csv", []
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("key", "x"), *(("a", cell) for cell in cells)])
    assert [document["x"] for _, document in documents(path, notes.append)] == numbers
    assert len(notes) == bool(said)
    assert said in "".join(notes)


def test_the_other_columns_tell_what_a_comma_means(tmp_path):
    path = written(tmp_path / "f.csv", "key;x;y;z;n\n" + "a;3,790;20,5;1.234;7\n" * 3)
    assert values_of(path) == [{"key": "a", "x": 3.79, "y": 20.5, "z": 1234, "n": 7}] * 3
    notes: list[str] = []
    list(documents(path, notes.append))
    assert [note.split()[0] for note in notes] == ["columns", "x", "y", "z"]


@pytest.mark.parametrize(
    ("cell", "number"),
    [("0.00028345642334522235", True), ("-1234567890.1234567890123", True), ("9" * 18, True), ("9" * 19, False)],
)
def test_many_digits_after_the_point_are_a_number_and_in_an_integer_a_name(tmp_path, cell, number):
    path = written(tmp_path / "f.csv", f"key,x\na,{cell}\n")
    (row,) = rows(path, Layout("key", "t"))
    assert orjson.loads(row.value)["x"] == (orjson.loads(cell) if number else cell)


def test_a_column_keeps_its_name(tmp_path):
    path = written(tmp_path / "f.csv", "key,device.temp,No.,a,a.b,\nk,5,7,1,2,3\n")
    assert values_of(path) == [{"key": "k", "device.temp": 5, "No.": 7, "a": 1, "a.b": 2, "column 6": 3}]


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
def test_any_cell_is_its_number_its_text_or_missing(tmp_path, table):
    path = tmp_path / "f.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerows([("a", "b"), *(["" if cell is None else cell for cell in line] for line in table)])
    found = [orjson.loads(value) for value, _ in documents(path)]
    assert len(found) == len(table)
    for column, name in enumerate(("a", "b")):
        for line, cell in zip(found, (line[column] for line in table), strict=True):
            text = "" if cell is None else str(cell)
            if isinstance(line[name], str):
                assert line[name] == text
            elif line[name] is None:
                assert text in ("", "NaN", "nan", "NAN", "NA", "N/A", "null", "NULL", "None")
            else:
                assert float(text) == float(line[name])


def test_parquet_keeps_its_types(tmp_path):
    moment = datetime.datetime(2026, 1, 1, 12, 0, 0, 250_000)
    table = pa.table(
        {
            "key": ["a", None],
            "n": pa.array([1, None], pa.int32()),
            "x": [math.nan, 0.1],
            "at": pa.array([moment, None], pa.timestamp("ns")),
            "fine": pa.array([1_767_268_800_250_123_456, None], pa.timestamp("ns", "UTC")),
            "took": pa.array([1_500_000_001, None], pa.duration("ns")),
            "day": pa.array([moment.date(), None]),
            "clock": pa.array([43_200_250_000_001, None], pa.time64("ns")),
            "kind": pa.array(["a", None]).dictionary_encode(),
            "half": pa.array([0.5, None], pa.float16()),
            "deep": pa.array([{"at": 1}, None], pa.struct([("at", pa.timestamp("ns"))])),
            "odd": pa.array([[1], None], pa.list_(pa.duration("ns"))),
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
        "fine": "2026-01-01T12:00:00.250123Z", "took": 1.500000001, "day": "2026-01-01",
        "clock": "12:00:00.250000001", "kind": "a", "half": 0.5, "deep": {"at": "1970-01-01T00:00:00.000000"},
        "price": 9.5, "raw": "a\\xff", "inner": {"deep": 5},
    }  # fmt: skip
    assert second["x"] == 0.1
    notes: list[str] = []
    assert len(list(documents(path, notes.append))) == 2
    assert [note.partition(":")[0] for note in notes] == ["odd is left out"]
    assert [row.key for row in rows(path, LAYOUT)] == [b"a", None]
    assert next(rows(path, Layout("inner.deep", "at"))).time_ms == 1_767_268_800_250
