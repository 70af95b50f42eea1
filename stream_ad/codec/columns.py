"""Columns from the leaves of decoded documents: what a field may hold, and what it becomes.

A leaf is what a parser made of a field: str, int, float, bool, None (null or absent), list, dict,
or `NO_OBJECT`. Each function returns a column with one row per leaf, and the rows that do not fit
with what is wrong with them; such rows hold a filler. A row's result depends on its leaf alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from types import NoneType
from typing import Any, TypeAlias

import numpy as np

from stream_ad.batch import F64, I64, Strings
from stream_ad.codec import timestamps

NO_OBJECT = object()  # the path leads through something that is no object
Misfits: TypeAlias = dict[int, str]  # row -> what is wrong

_EXACT = 2.0**53  # up to here a float is one integer only
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def numbers(leaves: Sequence[Any], as_text: bool) -> tuple[F64, Misfits]:
    """float64 [n], NaN = missing. `as_text` accepts decimal text too, and empty text as missing."""
    misfits: Misfits = {}
    if not set(map(type, leaves)) <= {float, int, NoneType}:
        leaves = list(leaves)
        for row, leaf in enumerate(leaves):
            if type(leaf) is str and as_text:
                leaves[row] = None if leaf == "" else _number(leaf)
                if leaf != "" and leaves[row] is None:
                    misfits[row] = f"{described(leaf)}, not a number"
            elif leaf is not None and type(leaf) not in (float, int):
                misfits[row] = f"{described(leaf)}, not a number"
                leaves[row] = None
    # + 0.0 makes -0.0 the 0.0 that equals it, so that equal values are equal bits
    return np.array(leaves, np.float64) + 0.0, misfits


def texts(leaves: Sequence[Any], bools: bool) -> tuple[Strings, Misfits]:
    """UTF-8 of text, decimal digits of 64-bit integers (of 5.0 too), `true` and `false` if `bools`; empty = missing."""
    misfits: Misfits = {}
    try:
        joined = "".join(leaves)
    except TypeError:
        leaves = list(leaves)
        for row, leaf in enumerate(leaves):
            kind = type(leaf)
            if kind is str:
                continue
            leaves[row] = ""
            if kind is int and -(2**63) <= leaf < 2**64:
                leaves[row] = str(leaf)
            elif kind is float and leaf.is_integer() and abs(leaf) <= _EXACT:
                leaves[row] = str(int(leaf))  # an id that went through a table with gaps
            elif kind is bool and bools:
                leaves[row] = "true" if leaf else "false"
            elif leaf is not None:
                misfits[row] = f"{described(leaf)}, not text or a 64-bit integer"
        joined = "".join(leaves)
    data = joined.encode()
    if len(data) > len(joined):
        return Strings.of([leaf.encode() for leaf in leaves]), misfits
    start = np.zeros(len(leaves) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, leaves), np.int64, len(leaves)), out=start[1:])
    return Strings(np.frombuffer(data, np.uint8), start), misfits


def times_ms(leaves: Sequence[Any], form: str, as_text: bool) -> tuple[I64, Misfits]:
    """int64 [n] ms since the epoch of `iso` text, or of numbers in the unit s, ms, us or ns."""
    if form == "iso":
        ms, wanted = timestamps.of_iso(texts(leaves, bools=False)[0]), "an ISO 8601 time"
    else:
        wanted = f"a number ({form} since the epoch)"
        readable = [_number(leaf) if type(leaf) is str else leaf for leaf in leaves] if as_text else leaves
        ms = timestamps.of_numbers(readable, form)
    misfits = {
        row: f"{described(leaves[row])}, not {wanted} between 1970 and 2261" for row in np.flatnonzero(ms < 0).tolist()
    }
    return ms, misfits


def _number(text: str) -> int | float | None:
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    if not math.isfinite(value):
        return None
    return int(text) if len(text) <= 20 and text.lstrip("+-").isdigit() else value


def described(leaf: object) -> str:
    """What a leaf is, in a few words that do not depend on the parser. They never quote it: reasons reach logs."""
    names = {
        str: "is text",
        bool: "is true or false",
        NoneType: "is missing",
        int: "is a number",
        float: "is a number",
        list: "is an array",
        dict: "is an object",
    }
    return names.get(type(leaf), "lies in something that is no object")
