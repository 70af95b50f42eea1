"""Names that an object of a JSON document has twice, which leave open what the document says (RFC 7493, 2.3)."""

from __future__ import annotations

import numpy as np
import orjson

from stream_ad.batch import I64, U8
from stream_ad.hash_kernel import FNV_BASIS, fnv1a
from stream_ad.kernel import kernel

_QUOTE, _BACKSLASH, _COLON, _OPENS, _CLOSES = (np.uint8(byte) for byte in b'"\\:{}')
_DEPTH = 1024  # of orjson's documents
_NAMES = 256  # that are looked at, of objects within each other
_NOWHERE = np.empty((0, 3), np.int64)


def repeated(value: bytes) -> str | None:
    """The first name of the document, which must be one, that its object has had already."""
    data = np.frombuffer(value, np.uint8)
    if not may_repeat(data):
        return None
    table = np.empty((len(value) // 4 + 1, 3), np.int64)
    seen = set()
    for first, last, owner in table[: _names(data, table)].tolist():
        name = owner, orjson.loads(value[first:last])
        if name in seen:
            return str(name[1])
        seen.add(name)
    return None


def may_repeat(data: U8) -> bool:
    """Whether an object in these documents may have a name twice: False is certain, if they are JSON.

    True also for names with escapes, and where more than `_NAMES` would have to be compared.
    """
    return bool(_names(data, _NOWHERE) < 0)


@kernel
def _names(data: U8, table: I64) -> int:
    """Of documents -> [names,3]: where each begins and ends, quotes included, and the number of its object; how many.

    Where `table` has no room they are compared instead: -1 as soon as one may be a repetition.
    """
    comparing = not len(table)
    begin = np.zeros(_DEPTH + 1, np.int64)  # of the names of each object around this place, or its number
    names = np.empty(_NAMES, np.uint64)
    depth, objects, count, first, last = 0, 0, 0, 0, 0  # the latest string is data[first:last]
    within = escaped = escapes = False
    for at in range(len(data)):
        byte = data[at]
        if within:
            if escaped:
                escaped = False
            elif byte == _BACKSLASH:
                escaped = escapes = True
            elif byte == _QUOTE:
                within, last = False, at
        elif byte == _QUOTE:
            within, escapes, first = True, False, at + 1
        elif byte == _COLON:
            if comparing:
                if escapes:
                    return -1
                name = fnv1a(data, first, last, FNV_BASIS)
                for other in range(begin[depth], count):
                    if names[other] == name:
                        return -1
                if count == _NAMES:
                    return -1
                names[count] = name
            else:
                table[count, 0], table[count, 1], table[count, 2] = first - 1, last + 1, begin[depth]
            count += 1
        elif byte == _OPENS:
            if depth == _DEPTH:
                return -1
            depth, objects = depth + 1, objects + 1
            begin[depth] = count if comparing else objects
        elif byte == _CLOSES and depth:
            if comparing:
                count = begin[depth]
            depth -= 1
    return count
