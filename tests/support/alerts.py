"""Alerts made by hand, and the schema that every one fits."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np

from stream_ad.batch import (
    Alerts,
    EventBatch,
    FeatureBatch,
    KeyedBatch,
    Message,
    Phase,
    RawBatch,
    Rule,
    Scores,
    Strings,
    Verdicts,
    WindowBatch,
)
from stream_ad.messages.explain import Contributor

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/alert.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker())
WHY = Contributor(
    "amount.zscore", "amount", "zscore", 812.4, 62.5, 35.0, 90.0, "above", 0, 0.8, 9.1,
    "amount 812.40, expected 35–90, 9.1 σ above",
)  # fmt: skip


def verdicts_of(values: list[bytes]) -> Verdicts:
    n = len(values)
    rows = np.arange(n)
    raw = RawBatch("cards", 3, rows, np.full(n, -1), [b"k"] * n, list(values), lambda row: [], n)
    events = EventBatch(
        raw,
        rows,
        rows,
        np.zeros(n, np.int64),
        Strings.of([b"k"] * n),
        np.zeros((n, 0)),
        (),
        np.zeros((n, 0), np.uint64),
    )
    keyed = KeyedBatch.of(events, np.zeros(n, np.int32), np.zeros(n, bool), np.zeros(n, np.int64))
    windows = WindowBatch(
        keyed, np.zeros((n, 1, 0)), np.zeros((n, 1), np.int64), np.ones(n, np.int32), np.ones(n, bool)
    )
    features = FeatureBatch(windows, rows, np.zeros((n, 1, 1), np.float32), np.zeros((n, 0, 2)))
    zeros = np.zeros(n)
    return Verdicts(Scores(features, "ae-7", zeros), zeros, zeros, zeros, zeros > 1, zeros > 1)


def alerts_of(*rows: dict) -> Alerts:
    base = {
        "rule": Rule.score, "phase": Phase.opened, "offset": 9, "incident": 9, "about": 9, "key": b"card-17",
        "row": -1, "ts_ms": 1_767_528_000_123, "opened_ms": 1_767_527_940_123, "events": 1, "score": 8.25,
        "threshold": 4.5, "p_value": 1e-8, "peak_p": 1e-8, "expected_ms": 0, "silent_ms": 0, "slot": 0,
        "now_ms": 1_767_528_000_123,
    }  # fmt: skip
    cells = [{**base, **row} for row in rows]
    types = {"rule": np.uint8, "phase": np.uint8} | dict.fromkeys(("score", "threshold", "p_value", "peak_p"), float)
    columns = {
        name: np.array([cell[name] for cell in cells], types.get(name, np.int64)) for name in base if name != "key"
    }
    return Alerts(key=Strings.of([cell["key"] for cell in cells]), **columns)


def size(message: Message) -> int:
    """Bytes of all that a broker counts but its own overhead."""
    parts = [message.key, message.value, *(part for name, value in message.headers for part in (name.encode(), value))]
    return sum(len(part or b"") for part in parts)
