"""The labelled stream of a run: thousands of keys with levels of their own, known anomalies, poison in between."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import orjson

KEYS = 6_000
EVERY_POISON = 97
EVERY_ANOMALY = 211
START_MS = 1_760_000_000_000
POISON = (
    b"{",
    b'{"k": 1',
    b"\xff\xfe\x00",
    b"[1,2]",
    b"null",
    b"",
    b'{"k":"x","t":"never","a":1}',
    b'{"k":"x","t":1760000000000,"a":"much"}',
    None,
)


@dataclass(frozen=True, slots=True)
class Event:
    key: bytes
    value: bytes | None
    poison: bool
    anomaly: bool


def events(seed: int, count: int) -> Iterator[Event]:
    """The same for the same seed. Event time goes on by 5 ms an event."""
    draw = random.Random(seed)
    gauss, uniform = draw.gauss, draw.random
    for number in range(count):
        # a few keys are busy, most speak now and then
        key = int(KEYS * uniform() ** 3)
        name = b"key-%d" % key
        if number % EVERY_POISON == 7:
            yield Event(name, POISON[number // EVERY_POISON % len(POISON)], True, False)
            continue
        odd = number % EVERY_ANOMALY == 13
        level = 10.0 + key % 50
        document = {
            "k": name.decode(),
            "t": START_MS + 5 * number,
            "a": round(level + gauss(0, 1) + (25 if odd else 0), 4),
            "b": round(abs(gauss(0, 2)) * (9 if odd else 1), 4),
            "c": ("x", "y", "z")[key % 3],
        }
        yield Event(name, orjson.dumps(document), False, odd)
