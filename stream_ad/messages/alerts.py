"""Alerts as messages: JSON (docs/alert.schema.json) with CloudEvents 1.0 headers, binary mode.

Every byte follows from the log, the configuration and the model: nothing here reads a clock,
floats have all their digits, and a replay writes the same bytes.

The id `<topic>/<partition>/<offset>/<rule>` names the event that caused an alert, and the judgement.
One event can cause several alerts. So the id of an update also has the phase, that of a resolution
also the incident (one event may move the watermark beyond many), and that of a silence also the key.

Severity follows from the lowest p-value of the incident so far: below 1e-10 critical, below 1e-7
high, below 1e-5 medium, else low. A silence and a value outside its range have no p-value and are medium; a level
shift is low.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import orjson

from stream_ad.batch import Alerts, Headers, Message, Phase, Rule, Verdicts
from stream_ad.messages.explain import Contributor
from stream_ad.messages.phrases import duration
from stream_ad.messages.redact import Redaction
from stream_ad.paths import field

SEVERITIES = ("low", "medium", "high", "critical")
_ABSENT = object()
_CUT_OFFS = ((1e-10, "critical"), (1e-7, "high"), (1e-5, "medium"))
_FRAME_BYTES = 512  # of a record, beyond key, value, and headers' names and values
_CONTRIBUTOR = [column.name for column in fields(Contributor)]


def encode(
    alerts: Alerts,
    verdicts: Verdicts,
    contributors: Mapping[int, Sequence[Contributor]],
    outside: Mapping[int, Contributor] | None = None,
    *,
    pipeline: str,
    topic: str,
    partition: int,
    most_bytes: int,
    payload_fields: Sequence[str] = (),
    redaction: Redaction | None = None,
) -> list[Message]:
    """One message per alert, in their order; its key is the key of the event.

    `contributors` belong to rows of `verdicts`, what lies `outside` its valid range to offsets. `payload_fields` are
    dotted paths into the event's JSON; a path that the event does not have is left out. A field that would make the
    alert larger than `most_bytes`, or that is nested too deeply to be written, is left out too, and named in
    `payload_omitted`. Whatever `redaction` covers is masked everywhere.
    """
    redaction = redaction or Redaction()
    names = [column.name for column in fields(Alerts) if column.name != "key"]
    columns = [getattr(alerts, name).tolist() for name in names]
    messages = []
    for raw_key, *cells in zip(alerts.key.tolist(), *columns, strict=True):
        key = redaction.key(raw_key)
        cell: dict[str, Any] = dict(zip(names, cells, strict=True))
        rule, phase = Rule(cell["rule"]), Phase(cell["phase"])
        reasons = contributors.get(cell["row"], ())
        if outside and _is_news(rule, phase):
            reasons = [outside[cell["about"]]]
        shares = [redaction.contributor(share) for share in reasons]
        shown = text_of(key)
        body: dict[str, Any] = {
            "id": _alert_id(f"{topic}/{partition}", cell, rule, phase, shown),
            "incident": _incident_id(f"{topic}/{partition}", cell["incident"], rule, shown),
            "phase": phase.name,
            "rule": rule.name,
            "key": shown,
            "event_time": iso(cell["ts_ms"]),
            "opened_at": iso(cell["opened_ms"]),
            "events": cell["events"],
            "score": cell["score"],
            "threshold": cell["threshold"],
            "p_value": cell["p_value"],
            "severity": _severity(cell, rule),
            "model": verdicts.scores.version,
            "position": {"topic": topic, "partition": partition, "offset": cell["about"]},
            "summary": _summary(cell, rule, phase, shown, shares),
            "contributors": [{name: getattr(share, name) for name in _CONTRIBUTOR} for share in shares],
            "payload": {},
        }
        if rule is Rule.silence:
            body["silent_since"] = iso(cell["ts_ms"])
            body["expected_gap_ms"] = cell["expected_ms"]
        headers = _headers(body, pipeline)
        room = most_bytes - len(key) - len(orjson.dumps(body)) - sum(len(name) + len(v or b"") for name, v in headers)
        body |= _payload(verdicts, _event(verdicts, cell, rule, phase), payload_fields, redaction, room - _FRAME_BYTES)
        messages.append(Message(key, orjson.dumps(body), headers))
    return messages


def text_of(key: bytes) -> str:
    """The key as text: itself when it is printable UTF-8, else `hex:` and its bytes in hexadecimal.

    No two keys share a text: a key that itself begins with `hex:` is written in hexadecimal too.
    """
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return f"hex:{key.hex()}"
    return text if text.isprintable() and not text.startswith("hex:") else f"hex:{key.hex()}"


def iso(ms: int) -> str:
    """Milliseconds since the epoch as 2026-01-31T12:00:00.000Z."""
    return f"{np.datetime64(ms, 'ms')}Z"


def _alert_id(place: str, cell: Mapping[str, Any], rule: Rule, phase: Phase, key: str) -> str:
    parts = [place, str(cell["offset"]), rule.name]
    if phase is not Phase.opened:
        parts.append(phase.name)
    if phase is Phase.resolved:
        parts.append(str(cell["incident"]))
    if rule is Rule.silence:
        parts.append(key)
    return "/".join(parts)


def _incident_id(place: str, offset: int, rule: Rule, key: str) -> str:
    # one event's watermark may make many keys' silences due, so the offset alone names no incident
    return f"{place}/{offset}/{rule.name}" + (f"/{key}" if rule is Rule.silence else "")


def _severity(cell: Mapping[str, Any], rule: Rule) -> str:
    if rule is Rule.shift:
        return "low"
    if rule in (Rule.silence, Rule.range):
        return "medium"
    lowest = cell["p_value"] if math.isnan(cell["peak_p"]) else cell["peak_p"]
    return next((name for limit, name in _CUT_OFFS if lowest < limit), "low")


def _summary(cell: Mapping[str, Any], rule: Rule, phase: Phase, key: str, shares: Sequence[Contributor]) -> str:
    lasted = duration(max(cell["ts_ms"] - cell["opened_ms"], 0) / 1000)
    events = "1 event" if cell["events"] == 1 else f"{cell['events']} events"
    if rule is Rule.silence:
        if phase is Phase.resolved:
            return f"{key} speaks again."
        gap = duration(cell["expected_ms"] / 1000)
        return f"{key} is silent since {iso(cell['ts_ms'])}; its next event was due within {gap}."
    if phase is Phase.resolved and rule is Rule.range:
        return f"{key} keeps to its valid ranges again after {events} in {lasted}."
    if phase is Phase.resolved:
        return f"{key} is normal again after {events} in {lasted}."
    if rule is Rule.shift:
        opening = f"{key} has settled on a new level, now taken as normal, after {events} in {lasted}"
    elif phase is Phase.updated:
        opening = f"{key} is still anomalous, {events} in {lasted}"
    elif rule is Rule.range:
        opening = f"{key} is out of range"
    else:
        opening = f"{key} is anomalous"
    reasons = "; ".join(share.text for share in shares)
    if not reasons:
        return f"{opening}; the model gives no reasons."
    if not any(share.outside for share in shares):
        return f"{opening}: taken together, since no value by itself is outside its range; most by {reasons}."
    return f"{opening}: {reasons}."


def _is_news(rule: Rule, phase: Phase) -> bool:
    """Whether the alert is about a value outside its range, in an event of this batch."""
    return rule is Rule.range and phase is not Phase.resolved


def _event(verdicts: Verdicts, cell: Mapping[str, Any], rule: Rule, phase: Phase) -> int | None:
    """Row of the batch that holds the event which the alert is about; None where that is of an earlier batch."""
    features = verdicts.scores.features
    if cell["row"] >= 0:
        return int(features.row[cell["row"]])
    offsets = features.windows.keyed.events.offset
    event = int(np.searchsorted(offsets, cell["about"]))
    there = event < len(offsets) and offsets[event] == cell["about"]
    return event if _is_news(rule, phase) and there else None


def _payload(
    verdicts: Verdicts, event: int | None, names: Sequence[str], redaction: Redaction, room: int
) -> dict[str, Any]:
    """`payload` with the fields `names` in order, as far as `room` bytes allow; `payload_omitted` names the rest."""
    if event is None or not names:
        return {}
    events = verdicts.scores.features.windows.keyed.events
    value = events.raw.value[int(events.row[event])]
    try:
        record = redaction.record(orjson.loads(value or b""))
    except orjson.JSONDecodeError:
        return {}
    payload: dict[str, Any] = {}
    omitted: list[str] = []
    room -= sum(len(orjson.dumps(name)) + 1 for name in names)
    for name in names:
        node = field(record, name, _ABSENT)
        if node is not _ABSENT:
            try:
                size = len(orjson.dumps({"payload": {name: node}}))
            except orjson.JSONEncodeError:  # orjson reads a depth of a thousand, but writes only some 250
                size = room + 1
            if size > room:
                omitted.append(name)
            else:
                payload[name] = node
                room -= size
    return {"payload": payload, "payload_omitted": omitted} if omitted else {"payload": payload}


def _headers(body: Mapping[str, Any], pipeline: str) -> Headers:
    headers = {
        "ce_specversion": "1.0",
        "ce_id": body["id"],
        "ce_type": f"stream_ad.alert.{body['phase']}",
        "ce_source": f"stream_ad/{pipeline}",
        "ce_time": body["event_time"],
        "ce_subject": body["key"],
        "content-type": "application/json",
    }
    return [(name, value.encode()) for name, value in headers.items() if value]
