"""Records that no producer should send, one generator for each kind, and the reject each must become."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

NOW_MS = 1_767_225_600_000  # 2026-01-01
MOST_MS = 2**63 - 1


@dataclass(frozen=True)
class Row:
    """A record as it lies in the log."""

    value: bytes | None
    key: bytes | None = b"card-1"
    time_ms: int = NOW_MS


@dataclass(frozen=True)
class Kind:
    """`by_field`: the reject's code where key and time are fields `k` and `t`; `own`: where they are the
    record's own. None: a record to be judged, however odd it looks."""

    make: Callable[[Random], Row]
    by_field: str | None
    own: str | None


def good(number: int) -> Row:
    """Every fourth with what is legal and rare: escapes, another alphabet, a missing field, an integer key."""
    key, name = number % 7, (b"shop", b"caf\xc3\xa9", b'\\u00e9\\n\\"', b"")[number % 4]
    value = b'{"k":"card-%d","t":"2026-01-01T00:%02d:%02dZ","a":%d.5,"d":{"x":%d},"c":"%b"}' % (
        *(key, number // 60 % 60, number % 60, number % 13, number % 5, name),
    )
    return Row(value, b"card-%d" % key, NOW_MS + 1000 * number)


def with_field(name: bytes, written: bytes) -> bytes:
    """A good record but for one field (`x` lies within `d`), written as told."""
    fields = {b"k": b'"card-1"', b"t": b'"2026-01-01T00:00:00Z"', b"a": b"1.5", b"x": b"2", b"c": b'"shop"', b"z": b"0"}
    return b'{"k":%b,"t":%b,"a":%b,"d":{"x":%b},"c":%b,"z":%b}' % tuple((fields | {name: written}).values())


def _always(row: Row, by_field: str | None, own: str | None) -> Kind:
    return Kind(lambda random: row, by_field, own)


def _value(value: bytes | None, code: str | None) -> Kind:
    return _always(Row(value), code, code)


def _field(name: bytes, written: bytes, code: str | None) -> Kind:
    return _value(with_field(name, written), code)


def _time(written: bytes) -> Kind:
    return _always(Row(with_field(b"t", written)), "bad_timestamp", None)


def _own(code: str | None, **fields: object) -> Kind:
    return _always(replace(good(1), **fields), None, code)  # type: ignore[arg-type]


def _compressed(random: Random) -> Row:
    text = random.choice([good(1).value or b"", random.randbytes(200)])
    packed = random.choice([gzip.compress, zlib.compress, lambda data: data[::-1]])(text)
    return Row(b"\x1f" + packed[random.randint(0, 2) :])


def _truncated(random: Random) -> Row:
    whole = good(random.randrange(1000)).value or b""
    return Row(whole[: random.randrange(1, len(whole))])


TEN_MB = 10_000_000
DEPTH = 10_000
KINDS: dict[str, Kind] = {
    "invalid UTF-8 in a key": _field(b"k", b'"\xff\xfe"', "bad_json"),
    "invalid UTF-8 in a text nobody asks for": _field(b"z", b'"\xc0\x80"', "bad_json"),
    "invalid UTF-8 in a name": _value(b'{"\xff":1,' + with_field(b"z", b"0")[1:], "bad_json"),
    "a surrogate in UTF-8": _field(b"c", b'"\xed\xa0\x80"', "bad_json"),
    "a lone surrogate": _field(b"c", b'"\\ud800"', "bad_json"),
    "surrogates the wrong way round": _field(b"z", b'"\\udc00\\ud800"', "bad_json"),
    "truncated": Kind(_truncated, "bad_json", "bad_json"),
    "arrays 10,000 deep": _field(b"z", b"[" * DEPTH + b"]" * DEPTH, "bad_json"),
    "objects 10,000 deep": _field(b"z", b'{"a":' * DEPTH + b"1" + b"}" * DEPTH, "bad_json"),
    "10,000 open brackets": _value(b"[" * DEPTH, "bad_json"),
    "an integer of 10 MB": _field(b"a", b"7" * TEN_MB, "bad_json"),
    "an integer of 10 MB nobody asks for": _field(b"z", b"7" * TEN_MB, "bad_json"),
    "a fraction of 10 MB": _field(b"a", b"0." + b"7" * TEN_MB, None),
    "an exponent of 10 MB": _field(b"a", b"1e" + b"7" * TEN_MB, "bad_json"),
    "a number beyond a double": _field(b"a", b"1e400", "bad_json"),
    "NaN": _field(b"a", b"NaN", "bad_json"),
    "NaN nobody asks for": _field(b"z", b"NaN", "bad_json"),
    "Infinity": _field(b"a", b"Infinity", "bad_json"),
    "-Infinity": _field(b"a", b"-Infinity", "bad_json"),
    "NaN as text": _field(b"a", b'"NaN"', "bad_number"),
    "a field twice": _value(b'{"a":1,' + with_field(b"a", b"3")[1:], "bad_json"),
    "a field twice, once with escapes": _value(with_field(b"a", b"3")[:-1] + b',"\\u0061":3}', "bad_json"),
    "a field twice that nobody asks for": _field(b"z", b'[{"n":1,"m":{"n":1},"n":1}]', "bad_json"),
    "a thousand fields, and the first one again": _value(
        b"{" + b"".join(b'"f%d":0,' % number for number in range(1000)) + b'"f0":0,' + with_field(b"a", b"3")[1:],
        "bad_json",
    ),
    "text for a number": _field(b"a", b'"much"', "bad_number"),
    "a boolean for a number": _field(b"a", b"true", "bad_number"),
    "an array for a number": _field(b"x", b"[1]", "bad_number"),
    "an object for a number": _field(b"a", b"{}", "bad_number"),
    "a number for an object": _value(b'{"k":"a","t":"2026-01-01","d":1}', "bad_number"),
    "an object for a category": _field(b"c", b"{}", "bad_category"),
    "a category of 10 MB": _field(b"c", b'"%b"' % (b"s" * TEN_MB), "bad_category"),
    "a fraction for a category": _field(b"c", b"1.5", "bad_category"),
    "an array": _value(b"[1,2]", "not_an_object"),
    "a number": _value(b"1", "not_an_object"),
    "null": _value(b"null", "not_an_object"),
    "a text": _value(b'"{}"', "not_an_object"),
    "two documents": _value((good(1).value or b"") * 2, "bad_json"),
    "a byte order mark": _value(b"\xef\xbb\xbf" + (good(1).value or b""), "bad_json"),
    "a NUL byte": _value((good(1).value or b"") + b"\0", "bad_json"),
    "nothing": _value(b"", "bad_json"),
    "blanks": _value(b" \n\t", "bad_json"),
    "tombstone": _value(None, "tombstone"),
    "compressed garbage": Kind(_compressed, "bad_json", "bad_json"),
    "random bytes": Kind(lambda random: Row(b"\x80" + random.randbytes(random.randrange(300))), "bad_json", "bad_json"),
    "null for a key": _always(Row(with_field(b"k", b"null")), "bad_key", None),
    "empty text for a key": _always(Row(with_field(b"k", b'""')), "bad_key", None),
    "a fraction for a key": _always(Row(with_field(b"k", b"1.5")), "bad_key", None),
    "an integer beyond 64 bits for a key": _always(Row(with_field(b"k", b"9" * 30)), "bad_key", None),
    "text of 65 bytes for a key": _always(Row(with_field(b"k", b'"%b"' % (b"k" * 65))), "bad_key", None),
    "text of 10 MB for a key": _always(Row(with_field(b"k", b'"%b"' % (b"k" * TEN_MB))), "bad_key", None),
    "no key": _own("bad_key", key=None),
    "an empty key": _own("bad_key", key=b""),
    "a key of 10 MB": _own("bad_key", key=b"k" * TEN_MB),
    "a key that is no text": _own(None, key=b"\xff\xfe\x00"),
    "a time in 1970": _time(b'"1970-01-01T00:00:12Z"'),
    "a time in 2500": _time(b'"2500-01-01T00:00:00Z"'),
    "a time in 2150": _time(b'"2150-01-01T00:00:00Z"'),
    "a time as other text": _time(b'"yesterday"'),
    "a time on no day": _time(b'"2026-02-30T00:00:00Z"'),
    "a negative time": _time(b"-1"),
    "a time as a fraction": _time(b"1767225600.5"),
    "a time of 1e300": _time(b"1e300"),
    "null for a time": _time(b"null"),
    "an array for a time": _time(b"[2026]"),
    "no time of its own": _own("bad_timestamp", time_ms=-1),
    "its own time in 1970": _own("bad_timestamp", time_ms=12_000),
    "its own time in 2500": _own("bad_timestamp", time_ms=16_725_225_600_000),
    "its own time the last there is": _own("bad_timestamp", time_ms=MOST_MS),
    "its own time the first there is": _own("bad_timestamp", time_ms=-MOST_MS - 1),
}
SMALL = [name for name, kind in KINDS.items() if len(kind.make(Random(0)).value or b"") < 10**6 and "10 MB" not in name]
LITTER = b'{}[]":,\\ntu0123456789eE+-.\x00\x1f\x7f\xc3\xa9\xed\xa0\x80\xff \n'


def any_row(random: Random) -> Row:
    """Of any small kind, or a good one of which some bytes are changed."""
    row = KINDS[random.choice(SMALL)].make(random) if random.random() < 0.5 else good(random.randrange(10_000))
    if row.value and random.random() < 0.6:
        row = replace(row, value=changed(row.value, random))
    if random.random() < 0.1:
        row = replace(row, key=random.choice([None, b"", b"\xff", random.randbytes(70)]))
    if random.random() < 0.1:
        row = replace(row, time_ms=random.choice([-1, 0, 1, NOW_MS, random.randrange(-(2**63), 2**63)]))
    return row


def changed(data: bytes, random: Random) -> bytes:
    """Some bytes put in, left out, repeated or exchanged."""
    found = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(found) + 1)
        size = random.choice([0, 1, 1, 2, 8])
        put = random.choice(
            [b"", random.randbytes(size), bytes(random.choices(LITTER, k=size)), found[at : at + 8] * 2]
        )
        found[at : at + random.choice([0, 1, 1, size])] = put
    return bytes(found)
