"""What led to an alert: its event and the key's events before it, read back from the topic."""

from __future__ import annotations

from typing import Any

import orjson

from stream_ad.batch import EventBatch
from stream_ad.config import Config
from stream_ad.errors import InputError
from stream_ad.io.kafka import read
from stream_ad.io.kafka.admin import end_offsets
from stream_ad.io.kafka.records import raw_batch
from stream_ad.messages.alerts import iso, text_of
from stream_ad.messages.redact import Redaction
from stream_ad.state import assemble

MOST_RECORDS = 50_000  # of the partition, before the event


def story(config: Config, alert: dict[str, Any]) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """The event, None where the topic has lost it, and up to `window.rows` - 1 events of its key before it, oldest
    first. Each has its offset, event time and record; what `sink.redact` names is masked.

    Raises `InputError`, `ConnectionFailed`.
    """
    try:
        place = alert["position"]
        topic, partition, offset = str(place["topic"]), int(place["partition"]), int(place["offset"])
    except (KeyError, TypeError, ValueError):
        raise InputError(f"ID: alert {alert.get('id')!r} does not say at which position its event is") from None
    redaction, codec = Redaction(config.sink.redact, config.record.key), assemble.codec(config)
    found: list[dict[str, Any]] = []
    records = 0
    end = min(offset + 1, end_offsets(config.kafka, topic, "position").get(partition, 0))
    for messages, _ in read.backwards(config.kafka, topic, "position", {partition: end}):
        records += len(messages)
        events, _ = codec.decode(raw_batch(topic, partition, messages, end))
        of_key = [row for row, key in enumerate(events.key.tolist()) if text_of(redaction.key(key)) == alert["key"]]
        found = [_shown(events, row, redaction) for row in of_key] + found
        if len(found) >= config.window.rows or records >= MOST_RECORDS:
            break
    found = found[-config.window.rows :]
    if found and found[-1]["offset"] == offset:
        return found[-1], found[:-1]
    return None, []


def _shown(events: EventBatch, row: int, redaction: Redaction) -> dict[str, Any]:
    value = events.raw.value[int(events.row[row])] or b""
    try:
        record = redaction.record(orjson.loads(value))
    except orjson.JSONDecodeError:  # of another codec
        record = f"{len(value)} bytes that are not JSON"
    return {
        "offset": int(events.offset[row]),
        "event_time": iso(int(events.ts_ms[row])),
        "record": record,
    }
