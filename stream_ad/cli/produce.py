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
    from collections.abc import Iterable

    from stream_ad.config import Config
    from stream_ad.io.files import Layout, Row
    from stream_ad.io.kafka.produce import TopicWriter

_SLACK_S = 0.005  # sleeping for less is not worth it
_SERVE_ROWS = 1000
_FLUSH_S = 60.0


def produce(
    input: Annotated[Path, typer.Option("--input", "-i", help="a CSV, JSONL or Parquet file")],
    path: ConfigOption = DEFAULT_CONFIG,
    topic: Annotated[
        str | None, typer.Option("--topic", "-t", help="the topic to write to; default source.topic")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=1e-3, help="events per second; default: as fast as possible")
    ] = None,
    speed: Annotated[
        float | None, typer.Option(min=1e-6, help="send at the pace of event time, so many times faster")
    ] = None,
    partitions: Annotated[
        int | None, typer.Option(min=1, help="partitions of the topic, if it is created (default 1)")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="field of the record's key; default record.key, or `key` for $key")
    ] = None,
    timestamp: Annotated[
        str | None, typer.Option(help="field of the event time; default record.timestamp, or `timestamp`")
    ] = None,
    brokers: Annotated[str | None, typer.Option(help="instead of kafka.brokers")] = None,
    json: JsonOption = False,
) -> None:
    """Writes a file to a topic, one JSON record per row. Keys go to the partitions that Kafka's Java client chooses.

    It creates the topic if it is missing. A replay of the file with as many partitions gives the same alerts as a
    replay of the topic. It works without a configuration file too. After Ctrl-C it waits until the broker has all
    records that were sent.
    """
    from stream_ad.io.files import Layout, rows
    from stream_ad.io.kafka.produce import TopicWriter, ensure_topic

    if rate is not None and speed is not None:
        raise ConfigError("--rate and --speed exclude each other; give one")
    config, exists = _config(path, brokers)
    layout = Layout.of(config.record, key, timestamp)
    if not exists and timestamp is None:
        # the user did not ask for the event time as the record's own time, and brokers delete records by their own time
        layout = replace(layout, stamped=False)
    reading = rows(input, layout)
    first = next(reading, None)
    name = topic or config.source.topic
    number = ensure_topic(config.kafka, name, partitions, keep=layout.stamped)
    writer = TopicWriter(config.kafka, name)
    pace = _Pace(rate, speed)
    interrupted = _send(chain([] if first is None else [first], reading), layout, pace, writer, name, number)
    seconds = pace.elapsed_s()
    answer(
        {
            "topic": name,
            "partitions": number,
            "events": writer.delivered,
            "seconds": seconds,
            "interrupted": interrupted,
        },
        json,
        f"{writer.delivered:,} events to topic {name} ({number} partition{'s' if number > 1 else ''}) "
        f"in {seconds:.1f} s{', interrupted' if interrupted else ''}",
    )
    if interrupted:
        raise typer.Exit(130)


def _send(rows: Iterable[Row], layout: Layout, pace: _Pace, writer: TopicWriter, topic: str, partitions: int) -> bool:
    """Sends the rows at their pace, and waits for the broker; whether the user interrupted it."""
    from stream_ad.io.files import stamp_ms
    from stream_ad.io.partition import partition_of

    with progress(f"produce {topic}") as bar, interruptible() as interrupted:
        task = bar.add_task("", total=None, status="")
        for at, row in enumerate(rows):
            while (wait_s := pace.wait_s(at, row.time_ms)) > _SLACK_S and not interrupted():
                bar.update(task, status=f"{writer.delivered:,} events")
                writer.serve(min(wait_s, 0.1))
            if interrupted():
                break
            writer.send(partition_of(row.key, at, partitions), row.key, row.value, stamp_ms(row, layout))
            if at % _SERVE_ROWS == 0:
                writer.serve()
                bar.update(task, status=f"{writer.delivered:,} events")
        bar.update(task, status="waiting for the broker")
        writer.flush(_FLUSH_S)
        return interrupted()


def _config(path: Path, brokers: str | None) -> tuple[Config, bool]:
    """The configuration, and whether its file exists; without the default file, the defaults."""
    exists = path != DEFAULT_CONFIG or path.exists()
    config = load(path if exists else None)
    if brokers is not None:
        config = config.model_copy(update={"kafka": config.kafka.model_copy(update={"brokers": brokers})})
    return config, exists


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
