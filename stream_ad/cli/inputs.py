"""The source that `--input`, `--from` and `--to` of a command name: a file, or a range of a topic."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from stream_ad.errors import ConfigError, InputError

if TYPE_CHECKING:
    from stream_ad.config import Config
    from stream_ad.protocols import Source

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")


def is_file(text: str) -> bool:
    # os.path, since pathlib raises for a name that is too long for the system
    return os.path.exists(text) or text.removesuffix(".gz").endswith(SUFFIXES) or "/" in text


def bounded(config: Config, text: str, first: str | None, last: str | None, partitions: int) -> Source:
    """The file or the topic called `text`. Raises `InputError`, `ConfigError`, `ConnectionFailed`."""
    if is_file(text):
        if first or last:
            raise ConfigError("--from and --to are for topics; cut a file before you replay it")
        from stream_ad.io.files import FileSource

        if not os.path.isfile(text):
            raise InputError(f"--input: {text}: no such file")
        return FileSource(Path(text), config, partitions)
    from stream_ad.io.kafka.range import KafkaRange, range_of

    start, stop = range_of(config.kafka, text, _time_ms(first, "--from"), _time_ms(last, "--to"), "--input")
    return KafkaRange(config.kafka, text, start, stop, "--input")


def _time_ms(text: str | None, option: str) -> int | None:
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{option}: give a time such as 2026-01-31T12:00:00Z (got {text!r})") from None
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000)
