"""Proposes from a sample of records which key to watch, where the event time is, and which fields to look at.

These are rules of thumb, for people to read and correct: every choice carries its reason, and `undecided` lists
what the sample does not show. Nothing here depends on the clock or on chance.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import orjson

from stream_ad.batch import I64
from stream_ad.config import Record
from stream_ad.config.feature_kinds import suited
from stream_ad.config.feature_kinds.row import Of, Trait
from stream_ad.paths import field as field_at
from stream_ad.propose.fields import CONSTANT, FieldType, columns_of, traits_of, type_of
from stream_ad.propose.keys import key_of, key_rank, repeats
from stream_ad.propose.presets import Preset
from stream_ad.propose.resembles import Likeness, likeness_of
from stream_ad.propose.rhythm import Rhythm, rhythm_of
from stream_ad.propose.times import MOSTLY, time_of, times_ms

Leaves: TypeAlias = list[Any]  # [n] of one field, None = missing

# labels: somebody adds them later, so they are unknown when an event is judged
_LABEL = re.compile(
    r"(^|[._-])(label|target|(is_?)?fraud(ulent)?|(is_?)?anomal(y|ous)|(is_?)?attack|(is_?)?outlier|class|"
    r"ground_?truth|scenario|change_?point|probation|split)$",
    re.I,
)
_MOST_FIELDS = 64
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Sample:
    """Some records in the order of the log, [n] each."""

    key: Sequence[bytes | None]
    value: Sequence[bytes | None]
    partition: Sequence[int]
    course: Sequence[bytes] = ()  # [m] consecutive records, where those above are stretches of them
    remarks: Sequence[str] = ()  # what of a file is not read as it stands


@dataclass(frozen=True, slots=True)
class Choice:
    features: list[str]
    why: str


@dataclass(slots=True)
class Proposal:
    """What to write into the configuration, with the reasons."""

    records: int  # of the sample that are JSON objects
    unreadable: int  # of the sample that are not
    key: str = "$key"
    key_why: str = ""
    longest_key_bytes: int = 0
    timestamp: str = "$timestamp"
    timestamp_format: str = "iso"
    timestamp_why: str = ""
    real_time: bool = True  # event times are moments, not just an order
    old_times: bool = False  # most lie before the default of `record.earliest`
    rhythm: Rhythm = field(default_factory=Rhythm)
    event: list[str] = field(default_factory=list)
    numeric: dict[str, Choice] = field(default_factory=dict)
    categorical: dict[str, Choice] = field(default_factory=dict)
    numbers_as_text: bool = False
    rows: int = 8
    rows_why: str = "events differ freely: a short look back"
    false_alarm_rate: float | None = None  # None = the default
    budget: str = ""  # of incidents; "" = none
    left_out: dict[str, str] = field(default_factory=dict)
    undecided: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)  # what of a file is not read as it stands


def infer(sample: Sample, preset: Preset | None = None) -> Proposal:
    """Always a proposal, however little the sample shows. A preset adds what is known of the domain."""
    decoded = [_document(value) for value in sample.value]
    kept = [row for row, document in enumerate(decoded) if document is not None]
    documents = [document for document in decoded if document is not None]
    proposal = Proposal(len(documents), len(decoded) - len(documents))
    columns, proposal.left_out = columns_of(documents)
    types = {name: type_of(name, leaves) for name, leaves in columns.items()}
    proposal.remarks = list(sample.remarks)
    _take_labels(proposal, columns)
    alike = _take_likenesses(proposal, columns)
    ts_ms = _choose_timestamp(proposal, columns, types, alike)
    keys = _choose_key(proposal, [sample.key[row] for row in kept], columns, types)
    if ts_ms is not None:
        _look_at_time(proposal, ts_ms, keys, [sample.partition[row] for row in kept], sample.course)
    _choose_fields(proposal, columns, types, keys)
    _choose_event(proposal)
    if preset is not None:
        _follow(preset, proposal)
    if not documents:
        proposal.undecided.append("no record of the sample is a JSON object, so no field is known")
    elif not (proposal.numeric or proposal.categorical):
        proposal.undecided.append("no field varies in a way that can be learnt; only the rhythm of events is watched")
    return proposal


def _document(value: bytes | None) -> dict[str, Any] | None:
    try:
        document = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
    return document if type(document) is dict else None


def _take_labels(proposal: Proposal, columns: dict[str, Leaves]) -> None:
    for name in [name for name in columns if _LABEL.search(name)]:
        proposal.left_out[name] = "its name says it is a label, which is not known when an event happens"
        del columns[name]


def _take_likenesses(proposal: Proposal, columns: dict[str, Leaves]) -> dict[str, Likeness]:
    alike = {name: like for name, leaves in columns.items() if (like := likeness_of(leaves)) is not None}
    for name, like in alike.items():
        proposal.left_out[name] = like.why
        proposal.undecided.append(f"{name} {like.why}")
        del columns[name]
    return alike


# ── when ─────────────────────────────────────────────────────────────────────────────────────


def _choose_timestamp(
    proposal: Proposal, columns: dict[str, Leaves], types: dict[str, FieldType], alike: dict[str, Likeness]
) -> I64 | None:
    times = (time_of(name, leaves, types[name]) for name, leaves in columns.items())
    candidates = [time for time in times if time is not None]
    clocks = [name for name, like in alike.items() if like.of_day]
    for day in [time for time in candidates if clocks and not (np.maximum(time.ts_ms, 0) % _DAY_MS).any()]:
        candidates.remove(day)
        proposal.left_out[day.name] = f"is a day without its time, which {clocks[0]} has"
        proposal.undecided.append(
            f"the event time is in two fields, {day.name} and {clocks[0]}: one that holds both is needed, "
            "as in 2026-01-31T12:00:00"
        )
        del columns[day.name]
    if not candidates:
        proposal.timestamp_why = "no field holds a time; the record's own is used"
        proposal.undecided.append("no field holds the event time: record.timestamp is left at the record's own time")
        return None
    chosen = max(candidates, key=lambda time: time.rank)
    proposal.timestamp, proposal.timestamp_format = chosen.name, chosen.form
    proposal.timestamp_why, proposal.real_time = chosen.why, chosen.real
    proposal.numbers_as_text = chosen.text
    del columns[chosen.name]
    if not chosen.real:
        proposal.undecided.append(
            f"{chosen.name} only counts up; it is read as seconds since 1970, so features of the calendar mean nothing"
        )
    for other in candidates:
        if other is not chosen:
            proposal.left_out[other.name] = "another time"
            del columns[other.name]
    return chosen.ts_ms


def _look_at_time(
    proposal: Proposal,
    ts_ms: I64,
    keys: Sequence[bytes | None],
    partition: Sequence[int],
    course: Sequence[bytes],
) -> None:
    """The rhythm is that of consecutive records, where there are such: between stretches lies what nobody knows."""
    proposal.old_times = bool(np.median(ts_ms) < Record().earliest)
    if course and proposal.key != "$key":
        documents = [document for value in course if (document := _document(value)) is not None]
        ts_ms = times_ms([field_at(document, proposal.timestamp) for document in documents], proposal.timestamp_format)
        keys = [key_of(field_at(document, proposal.key)) for document in documents]
        partition = [0] * len(documents)
    proposal.rhythm = rhythm_of(ts_ms, keys, partition)
    if proposal.rhythm.order:
        proposal.undecided.append(
            f"the records come {proposal.rhythm.order}: sort them by {proposal.timestamp}, or most of them are late"
        )


# ── who ──────────────────────────────────────────────────────────────────────────────────────


def _choose_key(
    proposal: Proposal, own: Sequence[bytes | None], columns: dict[str, Leaves], types: dict[str, FieldType]
) -> list[bytes | None]:
    """Removes the chosen field from `columns`; returns the key of each record."""
    present = [key for key in own if key]
    if len(present) >= MOSTLY * len(own) and own and repeats(present):
        proposal.key_why = f"{len(set(present))} different record keys in {len(own)} records"
        proposal.longest_key_bytes = max(map(len, present))
        copies = [
            name
            for name, leaves in columns.items()
            if types[name] in ("text", "number", "number_text")
            and all(key == key_of(leaf) for key, leaf in zip(own, leaves, strict=True))
        ]
        for name in copies:
            proposal.left_out[name] = "repeats the record's key"
            del columns[name]
        if copies:
            # the same records in a file can then be replayed, though its rows have no key of their own
            proposal.key = copies[0]
            proposal.key_why += f", the same as {copies[0]}"
            del proposal.left_out[copies[0]]
        return list(own)
    ranked: list[tuple[float, str]] = []
    for name, leaves in columns.items():
        rank = key_rank(name, leaves, types[name])
        if rank > 0:
            ranked.append((rank, name))
    if not ranked:
        proposal.key_why = "no field looks like a key"
        proposal.undecided.append(
            "no field looks like a key, and the records' own keys do not repeat: record.key is left at $key"
        )
        return list(own)
    _, name = max(ranked, key=lambda pair: pair[0])
    texts = [key_of(leaf) for leaf in columns.pop(name)]
    known = [text for text in texts if text]
    proposal.key, distinct = name, len(set(known))
    proposal.key_why = f"{distinct} different value{'s' if distinct > 1 else ''} in {len(texts)} records"
    if len(known) < len(texts):
        proposal.key_why += f"; {len(texts) - len(known)} have none and are rejected"
    proposal.longest_key_bytes = max(len(text) for text in texts if text is not None)
    others = [other for rank, other in sorted(ranked, reverse=True) if other != name and rank >= 1]
    if others:
        proposal.undecided.append(f"the key could also be {', '.join(others)}; {name} was chosen")
    return texts


# ── what ─────────────────────────────────────────────────────────────────────────────────────


def _choose_fields(
    proposal: Proposal, columns: dict[str, Leaves], types: dict[str, FieldType], keys: Sequence[bytes | None]
) -> None:
    for name, leaves in columns.items():
        if len(proposal.numeric) + len(proposal.categorical) >= _MOST_FIELDS:
            proposal.left_out[name] = f"{_MOST_FIELDS} fields are enough to begin with"
            continue
        section, traits, why = traits_of(name, leaves, types[name], keys)
        if Trait.SMOOTH in traits:
            proposal.rows, proposal.rows_why = 16, "fields change smoothly: a longer look back"
        if section == "numeric":
            proposal.numeric[name] = Choice(suited(Of.NUMBER, traits), why)
            proposal.numbers_as_text |= types[name] == "number_text"
        elif section == "categorical":
            proposal.categorical[name] = Choice(suited(Of.CATEGORY, traits), why)
        else:
            proposal.left_out[name] = why
            if why.startswith(CONSTANT) and proposal.records < 100:
                proposal.undecided.append(f"{name} is always the same in so small a sample; it may be worth a look")


def _follow(preset: Preset, proposal: Proposal) -> None:
    standard = [choice for choice in proposal.numeric.values() if {"zscore", "zscore_log"} & {*choice.features}]
    beside = preset.beside
    if preset.joint is not None and len(standard) > 1:
        proposal.event.append("joint")
        beside = preset.joint
    for choices, kinds in ((standard, beside), (list(proposal.categorical.values()), preset.categories)):
        for choice in choices:
            choice.features.extend(kinds)
    if preset.rows is not None and preset.rows != proposal.rows:
        proposal.rows, proposal.rows_why = preset.rows, "the preset's"
    proposal.false_alarm_rate, proposal.budget = preset.false_alarm_rate, preset.budget


def _choose_event(proposal: Proposal) -> None:
    traits = {Trait.TIMED}
    if proposal.real_time and not proposal.rhythm.steady and proposal.timestamp != "$timestamp":
        traits.add(Trait.IRREGULAR)
    if proposal.real_time or not (proposal.numeric or proposal.categorical):
        # about ten events of a key, where the gaps are known
        spans = (("1m", 60_000), ("1h", 3_600_000), ("1d", 86_400_000))
        gap_ms = proposal.rhythm.gap_ms
        span = next((text for text, ms in spans if 10 * gap_ms <= ms), "1d") if gap_ms else "1h"
        proposal.event = suited(Of.EVENT, traits, span)
