"""Some records of a file or a topic, for `init` and `check` to look at."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from stream_ad.errors import InputError

if TYPE_CHECKING:
    from stream_ad.batch import EventBatch, RejectBatch
    from stream_ad.config import Config, Kafka
    from stream_ad.propose.infer import Sample

SAMPLE_ROWS = 2000
_FILE_ROWS = 100_000  # the beginning of a file from which stretches are taken
_STRETCHES = 8


def of_file(path: Path) -> Sample:
    """Up to `SAMPLE_ROWS` records, in stretches of consecutive ones. Raises `InputError`."""
    from stream_ad.io.tables import documents
    from stream_ad.propose.infer import Sample

    remarks: list[str] = []
    course = values = [value for value, _ in islice(documents(path, remarks.append), _FILE_ROWS)]
    if not values:
        raise InputError(f"{path}: has no records")
    stretch = SAMPLE_ROWS // _STRETCHES
    if len(values) > SAMPLE_ROWS:
        starts = [(len(values) - stretch) * at // (_STRETCHES - 1) for at in range(_STRETCHES)]
        values = [value for start in starts for value in values[start : start + stretch]]
    return Sample([None] * len(values), values, [0] * len(values), course, remarks)


def of_topic(kafka: Kafka, topic: str, rows: int, key: str) -> Sample:
    """About `rows` records from several places of every partition; none from an empty topic.

    `key` names the topic in errors. Raises `InputError`, `ConnectionFailed`.
    """
    from stream_ad.io.kafka.read import sample
    from stream_ad.propose.infer import Sample

    messages = sample(kafka, topic, rows, key)
    return Sample(
        [message.key() for message in messages],
        [message.value() for message in messages],
        [message.partition() for message in messages],
    )


def reject_reasons(config: Config, sample: Sample) -> list[str]:
    """One reason per record, of all that were read, that this configuration would reject. It takes the records' own
    times as valid."""
    return decoded(config, sample)[1].reason


def decoded(config: Config, sample: Sample) -> tuple[EventBatch, RejectBatch]:
    """The events and rejects that this configuration makes of all records that were read, as of one partition."""
    import numpy as np

    from stream_ad.batch import RawBatch
    from stream_ad.state import assemble

    values = list(sample.course or sample.value)
    count = len(values)
    raw = RawBatch(
        topic=config.source.topic,
        partition=0,
        offset=np.arange(count),
        timestamp_ms=np.full(count, config.record.earliest, np.int64),
        key=[None] * count if sample.course else list(sample.key),
        value=values,
        headers=lambda row: [],
        next_offset=count,
    )
    return assemble.codec(config).decode(raw)
