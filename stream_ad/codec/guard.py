"""Finds out whether msgspec surely reads a batch as orjson reads each line.

Where msgspec skips a field that the schema does not name, it is laxer than orjson: it checks neither the UTF-8 of
strings nor whether a number overflows a double. Their limits of nesting differ. msgspec takes a newline for a blank:
several documents may share a line, and one may run over several. And it accepts a name that an object has twice.
"""

from __future__ import annotations

import numpy as np

from stream_ad.batch import U8
from stream_ad.codec.names import may_repeat
from stream_ad.kernel import kernel

_MAX_OPENINGS = 1000  # orjson refuses a depth of 1024; msgspec goes by the interpreter's recursion limit
_NEWLINE, _OPENING, _EXPONENT = 1, 2, 3
_KIND = np.zeros(256, np.uint8)  # of each byte; most are of none, and one look tells
_KIND[list(b"\n")] = _NEWLINE
_KIND[list(b"[{")] = _OPENING
_KIND[list(b"eE")] = _EXPONENT


def safe(lines: bytes) -> bool:
    """Whether every line holds one or more complete documents, and msgspec reads them as orjson does.

    Each line must begin with `{` and end with `}`, since `}`, a newline and `{` cannot stand within a document. So
    where a batch has as many documents as lines, each line is exactly one document.
    """
    data = np.frombuffer(lines, np.uint8)
    if not _lines_are_safe(data) or may_repeat(data):
        return False
    if lines.isascii():
        return True
    try:
        lines.decode()
    except UnicodeDecodeError:
        return False
    return True


@kernel
def _lines_are_safe(data: U8) -> bool:
    end = len(data)
    if end < 2 or data[0] != 123 or data[end - 1] != 125:  # { }
        return False
    openings = 0
    for at in range(1, end - 1):
        kind = _KIND[data[at]]
        if kind == 0:
            continue
        if kind == _NEWLINE:
            if data[at - 1] != 125 or data[at + 1] != 123:
                return False
            openings = 0
        elif kind == _OPENING:
            openings += 1
            if openings > _MAX_OPENINGS:
                return False
        elif _digit(data[at - 1]) and _overflows(data, at):
            return False
    for at in range(0, end, 128):  # a double of less than 200 digits and an exponent of two cannot overflow
        first = last = at
        while first >= 0 and _digit(data[first]):
            first -= 1
        while last < end and _digit(data[last]):
            last += 1
        if last - first > 200:
            return False
    return True


@kernel
def _overflows(data: U8, at: int) -> bool:
    """Whether the `e` at `at` may belong to a number and has an exponent of three digits or more.

    What begins after a letter or a quote ("3e100f") is no number. After a blank or a comma it may be text as well;
    then the batch takes the slow way without need.
    """
    first = at + 1 + (data[at + 1] == 43)  # +
    for digit in range(first, first + 3):
        if digit >= len(data) or not _digit(data[digit]):
            return False
    before = at - 1
    while before >= 0 and (_digit(data[before]) or data[before] == 46 or data[before] == 45):  # . -
        before -= 1
    return before < 0 or data[before] in (58, 44, 91, 32, 9, 13, 10)  # : , [ blank tab return newline


@kernel
def _digit(byte: int) -> bool:
    return 48 <= byte <= 57
