"""`stream-ad alerts`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import orjson
import typer
from rich.text import Text

from stream_ad.cli.app import DEFAULT_CONFIG, ConfigOption, load
from stream_ad.cli.interruption import interruptible
from stream_ad.cli.output import json_text, out, say
from stream_ad.errors import printable

_COLOURS = {"low": "cyan", "medium": "yellow", "high": "red", "critical": "bold white on red"}


def alerts(
    path: ConfigOption = DEFAULT_CONFIG,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on with new alerts, until Ctrl-C")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="print the last N alerts; 0 = all")] = 20,
    key: Annotated[str | None, typer.Option(help="print the alerts of this key only")] = None,
    json: Annotated[bool, typer.Option("--json", help="print one JSON object per line")] = False,
) -> None:
    """Prints alerts, oldest first. It reads committed alerts only, so it prints each exactly once."""
    from stream_ad.io.kafka import read
    from stream_ad.messages.redact import Redaction

    config = load(path)
    topic = config.sink.alerts
    if key is not None and not key.startswith("sha256:"):
        key = Redaction(config.sink.redact, config.record.key).key(key.encode()).decode()
    past = read.committed(config.kafka, topic, "sink.alerts")
    # `committed` returns one partition after the other; the records' own time merges them
    past.sort(key=lambda message: (message.timestamp()[1], message.partition(), message.offset()))
    shown = [alert for message in past if (alert := _parsed(message.value(), key)) is not None]
    for alert in shown[-limit:] if limit else shown:
        _print(alert, json)
    if not follow:
        if not shown and not json:
            say(f"no alerts in topic {topic}")
        return
    ends: dict[int, int] = {}
    for message in past:
        ends[message.partition()] = max(ends.get(message.partition(), -1), message.offset())
    with interruptible() as interrupted:
        for batch in read.follow(config.kafka, topic, "sink.alerts", ends):
            for message in batch:
                alert = _parsed(message.value(), key)
                if alert is not None:
                    _print(alert, json)
            if interrupted():
                raise typer.Exit(130)


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
    severity = str(alert.get("severity", ""))
    line = Text(f"{printable(str(alert.get('event_time', ''))).replace('T', ' ').removesuffix('Z')}  ", style="dim")
    resolved = alert.get("phase") == "resolved"
    line.append(
        f"{'resolved' if resolved else printable(severity):<9}",
        style="green" if resolved else _COLOURS.get(severity, ""),
    )
    line.append(" " + printable(str(alert["summary"])), style="dim" if resolved else "default")
    out.print(line, soft_wrap=True, highlight=False)
