"""`stream-ad alerts`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from stream_ad.cli.app import DEFAULT_CONFIG, ConfigOption, JsonOption, exits, load
from stream_ad.cli.interruption import interruptible
from stream_ad.cli.output import answer, json_text, literal, out, say
from stream_ad.errors import InputError, printable

if TYPE_CHECKING:
    from confluent_kafka import Message

    from stream_ad.config import Config

EXITS = exits(0, 2, 3, 4, 130)
_COLOURS = {"low": "cyan", "medium": "yellow", "high": "red", "critical": "bold white on red"}

alerts = typer.Typer(invoke_without_command=True, epilog=EXITS)


@alerts.callback()
def latest(
    context: typer.Context,
    path: ConfigOption = DEFAULT_CONFIG,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on with new alerts, until Ctrl-C")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="print the last N alerts; 0 = all")] = 20,
    key: Annotated[str | None, typer.Option(help="print the alerts of this key only")] = None,
    json: Annotated[bool, typer.Option("--json", help="print one JSON object per line")] = False,
) -> None:
    """Prints alerts, oldest first; `alerts show ID` opens one. It reads committed alerts only, so it prints each
    exactly once, and from the end of the topic only as many as it needs."""
    from stream_ad.io.kafka import read
    from stream_ad.io.kafka.admin import end_offsets
    from stream_ad.messages.redact import Redaction

    if context.invoked_subcommand is not None:
        return
    config = load(path)
    topic = config.sink.alerts
    if key is not None and not key.startswith("sha256:"):
        key = Redaction(config.sink.redact, config.record.key).key(key.encode()).decode()
    ends = end_offsets(config.kafka, topic, "sink.alerts")
    shown = _last(config, ends, key, limit)
    for alert in shown:
        _print(alert, json)
    if not follow:
        if not shown and not json:
            say(f"no alerts in topic {topic}")
        return
    after = {partition: end - 1 for partition, end in ends.items()}
    with interruptible() as interrupted:
        for batch in read.follow(config.kafka, topic, "sink.alerts", after):
            for message in batch:
                if (new := _parsed(message.value(), key)) is not None:
                    _print(new, json)
            if interrupted():
                raise typer.Exit(130)


@alerts.command(epilog=EXITS)
def show(
    id: Annotated[str, typer.Argument(help="as `alerts --json` prints it")],
    path: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Opens one alert: its event, the key's events before it, the reasons with their expected ranges, score and
    threshold, and the model."""
    from stream_ad.jobs.alert_story import story

    config = load(path)
    alert = next((alert for alert in _all(config) if alert.get("id") == id), None)
    if alert is None:
        raise InputError(f"ID: no alert {id!r} in topic {config.sink.alerts}; `stream-ad alerts --json` prints the ids")
    event, window = story(config, alert)
    answer({"alert": alert, "event": event, "window": window}, True, "") if json else _tell(alert, event, window)


def _all(config: Config) -> Iterator[dict[str, Any]]:
    """All alerts, those at the end of the topic first."""
    from stream_ad.io.kafka import read
    from stream_ad.io.kafka.admin import end_offsets

    topic = config.sink.alerts
    ends = end_offsets(config.kafka, topic, "sink.alerts")
    for messages, _ in read.backwards(config.kafka, topic, "sink.alerts", ends):
        yield from filter(None, (_parsed(message.value(), None) for message in reversed(messages)))


def _last(config: Config, ends: dict[int, int], key: str | None, limit: int) -> list[dict[str, Any]]:
    """The last `limit` alerts before `ends`, oldest first; all where it is 0. The records' own time merges the
    partitions."""
    from stream_ad.io.kafka import read

    found: list[tuple[tuple[int, int, int], dict[str, Any]]] = []
    for messages, more in read.backwards(config.kafka, config.sink.alerts, "sink.alerts", ends):
        found += [(_place(one), alert) for one in messages if (alert := _parsed(one.value(), key)) is not None]
        found.sort(key=lambda pair: pair[0])
        found = found[-limit:] if limit else found
        # what was not read of a partition is not later than what was
        earliest = [min((place for place in map(_place, messages) if place[1] == part), default=None) for part in more]
        if limit and len(found) == limit and all(place is not None and place <= found[0][0] for place in earliest):
            break
    return [alert for _, alert in found]


def _place(message: Message) -> tuple[int, int, int]:
    return message.timestamp()[1], message.partition(), message.offset()


def _parsed(value: bytes | None, key: str | None) -> dict[str, Any] | None:
    """The alert; None where the record is no alert, or where the alert is about another key."""
    try:
        alert = orjson.loads(value or b"")
        orjson.dumps(alert)  # orjson reads deeper JSON than it writes; alerts of stream_ad are never so deep
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return None
    if not isinstance(alert, dict) or "summary" not in alert:
        return None
    return alert if key is None or alert.get("key") == key else None


def _print(alert: dict[str, Any], json: bool) -> None:
    if json:
        sys.stdout.write(json_text(alert) + "\n")
        sys.stdout.flush()
        return
    out.print(_line(alert), soft_wrap=True, highlight=False)


def _line(alert: dict[str, Any]) -> Text:
    severity, resolved = printable(str(alert.get("severity", ""))), alert.get("phase") == "resolved"
    line = Text(f"{printable(_time(alert.get('event_time', '')))}  ", style="dim")
    line.append(f"{'resolved' if resolved else severity:<9}", style="green" if resolved else _COLOURS.get(severity, ""))
    return line.append(" " + printable(str(alert["summary"])), style="dim" if resolved else "default")


def _time(iso: Any) -> str:
    return str(iso).replace("T", " ").removesuffix("Z")


def _tell(alert: dict[str, Any], event: dict[str, Any] | None, window: list[dict[str, Any]]) -> None:
    say(_line(alert))
    facts = ("id", "incident", "phase", "rule", "key", "events", "opened_at", "score", "threshold", "p_value", "model")
    say("\n".join(f"  {name:<10} {alert[name]}" for name in facts if alert.get(name) is not None))
    if alert.get("contributors"):
        say(_reasons(alert["contributors"]))
    if event is None:
        say("the event: the topic does not hold it any more")
        return
    say(f"the event: {json_text(event)}")
    say(f"the {len(window)} events of the key before it, oldest first:" if window else "no event of the key before it")
    for one in window:
        say(f"  {json_text(one)}")


def _reasons(contributors: list[dict[str, Any]]) -> Table:
    names = ("field", "feature", "observed", "expected", "low", "high", "deviations", "share", "text")
    table = Table(*names, box=SIMPLE_HEAD)
    for one in contributors:
        cells = (one.get(name) for name in names)
        shown = (f"{cell:.6g}" if isinstance(cell, float) else "" if cell is None else str(cell) for cell in cells)
        table.add_row(*map(literal, shown))
    return table
