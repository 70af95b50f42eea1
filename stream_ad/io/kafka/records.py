"""Takes records from the client and turns them into columns, with as few Python operations per record as possible."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Any

import numpy as np
from confluent_kafka import KafkaError, Message

from stream_ad.batch import Headers, RawBatch

# called through map: no bytecode runs between two messages
_error, _partition, _offset = Message.error, Message.partition, Message.offset
_timestamp, _key, _value, _all_headers = Message.timestamp, Message.key, Message.value, Message.headers

ROWS = 8000  # of a poll, at most; many, so that the threads that read and fold hand over seldom
POLL_BYTES = 16 << 20  # or about so many of keys and values
FIRST_ROWS = 16  # of which the size of the others is foretold


def taken(consumer: Any, timeout_s: float) -> list[Message]:
    """What waits in the client. Waits for the first record only, so a slow topic costs no latency."""
    messages: list[Message] = consumer.consume(FIRST_ROWS, 0) or consumer.consume(1, timeout_s)
    size, more = nbytes(messages), messages
    while more and len(messages) < ROWS and size < POLL_BYTES:
        fit = (POLL_BYTES - size) * len(messages) // max(size, 1) + 1
        more = consumer.consume(min(fit, 16 * len(messages), ROWS - len(messages)), 0)
        messages, size = messages + more, size + nbytes(more)
    return messages


def nbytes(messages: list[Message]) -> int:
    """Of keys and values."""
    return sum(map(len, filter(None, map(_value, messages)))) + sum(map(len, filter(None, map(_key, messages))))


def sorted_out(messages: list[Message]) -> tuple[dict[int, list[Message]], dict[int, int], list[Message]]:
    """Records by partition, in order; end offsets of the partitions whose end was reached; and errors."""
    ends: dict[int, int] = {}
    errors: list[Message] = []
    if any(map(_error, messages)):
        records = []
        for message in messages:
            error = message.error()
            if error is None:
                records.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                ends[message.partition()] = message.offset()
            else:
                errors.append(message)
        messages = records
    if not messages:
        return {}, ends, errors
    numbers = list(map(_partition, messages))
    if numbers.count(numbers[0]) == len(numbers):
        return {numbers[0]: messages}, ends, errors
    rows: dict[int, list[Message]] = {}
    first = 0
    for number, run in groupby(numbers):
        last = first + sum(1 for _ in run)
        rows.setdefault(number, []).extend(messages[first:last])
        first = last
    return rows, ends, errors


def raw_batch(topic: str, partition: int, rows: list[Message], next_offset: int) -> RawBatch:
    count = len(rows)
    return RawBatch(
        topic=topic,
        partition=partition,
        offset=np.fromiter(map(_offset, rows), np.int64, count),
        timestamp_ms=np.fromiter(_times(rows), np.int64, count),
        key=list(map(_key, rows)),
        value=list(map(_value, rows)),
        headers=_headers(rows),
        next_offset=next_offset,
    )


def _times(rows: list[Message]) -> Iterable[int]:
    return [time_ms for _, time_ms in map(_timestamp, rows)]


def _headers(rows: list[Message]) -> Callable[[int], Headers]:
    unreadable: set[int] = set()

    def of(row: int) -> Headers:
        if row not in unreadable:
            try:
                # for a name that is not UTF-8 the client sets an error and still returns a value. A plain call may
                # overlook the error, and then the value crashes the process; `map` checks for the error each time
                (headers,) = map(_all_headers, [rows[row]])
                return [(name, value) for name, value in headers or []]
            except (UnicodeDecodeError, SystemError):
                unreadable.add(row)  # a second call would set no error
        return [("headers_left_out", b"the name of one is not UTF-8")]

    return of
