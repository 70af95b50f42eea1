"""A proposal as a commented `stream_ad.toml`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from stream_ad.config import Config
from stream_ad.config.feature_kinds import kinds_of, suited
from stream_ad.config.feature_kinds.row import Of, Trait
from stream_ad.propose.infer import Choice, Proposal

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1))
_STEPS_MS = [minutes * 60_000 for minutes in (5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 4320, 10_080)]
_DEFAULTS = Config()
_LONG_GAP_MS = 30_000  # above it the default durations are short
_LONGEST_MS = 3_600_000  # of an incident's end where events come as they please: the next day's is another
_SILENT_GAPS = 3  # one event that is lost is no silence


def toml_of(proposal: Proposal, pipeline: str, topic: str, brokers: str, origin: str) -> str:
    """The text of the file; `config.load` accepts it as it is."""
    lines = [
        f"# Written by `stream-ad init` from {proposal.records} records of {origin}.",
        "# Every choice says why. Change what you know better, then run `stream-ad check`.",
        "# Keys that are missing here have their defaults; docs/configuration.md lists all keys.",
        *(f"# The file: {text}." for text in proposal.remarks),
        *(f"# NOT DECIDED: {text}." for text in proposal.undecided),
        "",
        f"pipeline = {_text(pipeline)}  # names the consumer group, the alerts topic and the keys in Redis",
        "",
        "[kafka]",
        f"brokers = {_text(brokers)}",
        "# options = {}  # any librdkafka setting; secrets come from the environment",
        "",
        "[source]",
        f"topic = {_text(topic)}",
        "",
        "[redis]",
        f"url = {_text(_DEFAULTS.redis.url)}",
        "",
        "[record]",
        f"key = {_text(proposal.key)}  # {proposal.key_why}",
        f"timestamp = {_text(proposal.timestamp)}  # {proposal.timestamp_why}",
        f'timestamp_format = "{proposal.timestamp_format}"',
    ]
    if proposal.old_times:
        lines.append('earliest = "1970-01-01"  # most times of the sample lie before 2000')
    if proposal.numbers_as_text:
        lines.append("numbers_as_text = true  # some numbers come as text")
    if proposal.longest_key_bytes > _DEFAULTS.record.max_key_bytes:
        lines.append(f"max_key_bytes = {min(2 * proposal.longest_key_bytes, 1024)}")
    lines += ["", *_window(proposal), "", *_features(proposal), *_threshold(proposal)]
    lines += [*_incidents(proposal), *_silence(proposal)]
    return "".join(f"{_printable(line)}\n" for line in lines)


def _window(proposal: Proposal) -> Iterator[str]:
    yield "[window]"
    yield f"rows = {proposal.rows}  # {proposal.rows_why}"
    if proposal.rhythm.lateness_ms > 0:
        yield f'allowed_lateness = "{_duration(proposal.rhythm.lateness_ms)}"  # the latest event of the sample'


def _features(proposal: Proposal) -> Iterator[str]:
    yield "[features]"
    for text in proposal.event:
        kind = kinds_of(Of.EVENT)[text.partition(":")[0]]
        yield f"# {kind.written}: {kind.about}"
    yield f"event = {json.dumps(proposal.event)}"
    if proposal.real_time:
        of_days = " or ".join(f'"{text}"' for text in suited(Of.EVENT, {Trait.DAYS}))
        yield f"# add {of_days} once the topic spans days: a sample cannot tell"
    for section, fields in (("numeric", proposal.numeric), ("categorical", proposal.categorical)):
        if fields:
            yield from _section(section, fields)
    if proposal.left_out:
        yield ""
        yield "# Left out:"
        for name, why in proposal.left_out.items():
            yield f"#   {_name(name)}: {why}"


def _section(section: str, fields: Mapping[str, Choice]) -> Iterator[str]:
    yield ""
    yield f"[features.{section}]"
    for name, choice in fields.items():
        yield f"{_name(name)} = {json.dumps(choice.features)}  # {choice.why}"


def _incidents(proposal: Proposal) -> Iterator[str]:
    lines = []
    if proposal.budget:
        lines.append(f"budget = {_text(proposal.budget)}  # the preset's: the most severe are told")
    if proposal.real_time and proposal.rhythm.gap_ms >= _LONG_GAP_MS:
        resolve_ms = _step(10 * proposal.rhythm.gap_ms)
        if not proposal.rhythm.steady:
            resolve_ms = min(resolve_ms, _LONGEST_MS)
        lines.append(f'resolve_after = "{_duration(resolve_ms)}"  # a key has an event about every {_gap(proposal)}')
        lines.append(f'cooldown = "{_duration(2 * resolve_ms)}"')
    if lines:
        yield from ("", "[incidents]", *lines)


def _silence(proposal: Proposal) -> Iterator[str]:
    """Where keys have events at regular intervals."""
    if not proposal.real_time or not proposal.rhythm.steady:
        return
    gap = _gap(proposal)
    yield ""
    yield "[silence]"
    if not proposal.rhythm.lasting:
        yield f"enabled = false  # true alerts when a key, which has an event about every {gap}, falls silent"
        return
    yield f"enabled = true  # a key has an event about every {gap}, and the keys of the sample go on to its end"
    if _SILENT_GAPS * proposal.rhythm.gap_ms > _DEFAULTS.silence.min_gap:
        yield f'min_gap = "{about(_SILENT_GAPS * proposal.rhythm.gap_ms)}"'


def _gap(proposal: Proposal) -> str:
    return about(proposal.rhythm.gap_ms)


def _threshold(proposal: Proposal) -> Iterator[str]:
    lines = []
    if proposal.false_alarm_rate is not None:
        lines.append(f"false_alarm_rate = {proposal.false_alarm_rate:g}  # the preset's")
    if proposal.rhythm.steady and proposal.real_time and proposal.rhythm.gap_ms >= _LONG_GAP_MS:
        lines.append(f'escape_after = "{_duration(_step(30 * proposal.rhythm.gap_ms))}"')
    if lines:
        yield from ("", "[threshold]", *lines)


def _step(ms: float) -> int:
    return next((step for step in _STEPS_MS if step >= ms), _STEPS_MS[-1])


def about(ms: float) -> str:
    """A duration to the nearest whole number of its unit."""
    size = next((size for _, size in _UNITS if ms >= 2 * size), 1)
    return _duration(max(round(ms / size) * size, 1))


def _duration(ms: int) -> str:
    """Rounded up to a whole number of a unit, as a person would write it."""
    for unit, size in _UNITS:
        if ms >= 2 * size or (ms >= size and ms % size == 0):
            return f"{-(-ms // size)}{unit}"
    return "1ms"


def _name(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def _text(text: str) -> str:
    """A TOML basic string: JSON's escapes, and one for DEL, which JSON does not escape."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _printable(line: str) -> str:
    return "".join(
        c if c.isprintable() else f"\\u{ord(c):04X}" if ord(c) < 0x10000 else f"\\U{ord(c):08X}" for c in line
    )
