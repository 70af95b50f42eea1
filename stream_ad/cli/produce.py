"""`stream-ad produce`."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream_ad.cli.app import DEFAULT_CONFIG, ConfigOption, JsonOption, load
from stream_ad.cli.interruption import interruptible
from stream_ad.cli.output import answer, progress
from stream_ad.errors import ConfigError

if TYPE_CHECKING:
    from stream_ad.config import Config

_SLACK_S = 0.005  # sleeping for less is not worth it
_SERVE_ROWS = 1000
_FLUSH_S = 60.0


def produce(
    input: Annotated[Path, typer.Option("--input", "-i", help="a CSV, JSONL or Parquet file")],
    config: ConfigOption = DEFAULT_CONFIG,
    topic: Annotated[str | None, typer.Option("--topic", "-t", help="where to; default source.topic")] = None,
    rate: Annotated[float | None, typer.Option(min=1e-3, help="events per second; default as fast as it goes")] = None,
    speed: Annotated[float | None, typer.Option(min=1e-6, help="event time passes so many times faster")] = None,
    partitions: Annotated[int | None, typer.Option(min=1, help="of a topic that is created (default 1)")] = None,
    key: Annotated[
        str | None, typer.Option(help="field of the record's key; default record.key, or `key` for $key")
    ] = None,
    timestamp: Annotated[
        str | None, typer.Option(help="field of the event time; default record.timestamp, or `timestamp`")
    ] = None,
    brokers: Annotated[str | None, typer.Option(help="instead of kafka.brokers")] = None,
    json: JsonOption = False,
) -> None:
    """Writes a file to a topic, one JSON record a row, keys placed as Kafka's Java client places them.

    A topic that is missing is created. Replaying the file with as many partitions is replaying the topic.
    Works without a configuration file too. Ctrl-C ends it once what was sent has arrived.
    """
    from stream_ad.io.files import Layout, rows, stamp_ms
    from stream_ad.io.kafka.produce import TopicWriter, ensure_topic
    from stream_ad.io.partition import partition_of

    if rate is not None and speed is not None:
        raise ConfigError("--rate and --speed exclude each other; give one")
    found, there = _config(config, brokers)
    layout = Layout.of(found.record, key, timestamp)
    if not there and timestamp is None:
        # nobody asked for the event time to be the record's own, and brokers delete old records
        layout = replace(layout, stamped=False)
    reading = rows(input, layout)
    first = next(reading, None)
    name = topic or found.source.topic
    number = ensure_topic(found.kafka, name, partitions, keep=layout.stamped)
    writer = TopicWriter(found.kafka, name)
    pace = _Pace(rate, speed)
    with progress(f"produce {name}") as bar, interruptible() as interrupted:
        task = bar.add_task("", total=None, said="")
        for at, row in enumerate(chain([] if first is None else [first], reading)):
            while (wait_s := pace.wait_s(at, row.time_ms)) > _SLACK_S and not interrupted():
                bar.update(task, said=f"{writer.delivered:,} events")
                writer.serve(min(wait_s, 0.1))
            if interrupted():
                break
            writer.send(partition_of(row.key, at, number), row.key, row.value, stamp_ms(row, layout))
            if at % _SERVE_ROWS == 0:
                writer.serve()
                bar.update(task, said=f"{writer.delivered:,} events")
        bar.update(task, said="waiting for the broker")
        writer.flush(_FLUSH_S)
    seconds = pace.elapsed_s()
    answer(
        {
            "topic": name,
            "partitions": number,
            "events": writer.delivered,
            "seconds": seconds,
            "interrupted": interrupted(),
        },
        json,
        f"{writer.delivered:,} events to topic {name} ({number} partition{'s' if number > 1 else ''}) "
        f"in {seconds:.1f} s{', interrupted' if interrupted() else ''}",
    )
    if interrupted():
        raise typer.Exit(130)


def _config(path: Path, brokers: str | None) -> tuple[Config, bool]:
    """The configuration, or the defaults where the usual file is not there yet; and whether it is."""
    there = path != DEFAULT_CONFIG or path.exists()
    found = load(path if there else None)
    if brokers is not None:
        found = found.model_copy(update={"kafka": found.kafka.model_copy(update={"brokers": brokers})})
    return found, there


class _Pace:
    """When the next event is due: by a rate, by event time, or at once."""

    def __init__(self, rate: float | None, speed: float | None) -> None:
        self._rate, self._speed = rate, speed
        self._begun = time.monotonic()
        self._first_ms: int | None = None

    def elapsed_s(self) -> float:
        return time.monotonic() - self._begun

    def wait_s(self, row: int, time_ms: int) -> float:
        due_s = 0.0
        if self._rate is not None:
            due_s = row / self._rate
        elif self._speed is not None and time_ms >= 0:
            self._first_ms = time_ms if self._first_ms is None else self._first_ms
            due_s = (time_ms - self._first_ms) / 1000 / self._speed
        else:
            return 0.0
        return due_s - self.elapsed_s()
