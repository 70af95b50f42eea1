"""The HTML report of a demo: one file that loads nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from stream_ad.demo import view
from stream_ad.demo.measure import Quality, matches
from stream_ad.demo.watch import Watch
from stream_ad.errors import StreamAdError
from stream_ad.io.atomic_file import replaced
from stream_ad.messages.phrases import duration

SHOWN_ALERTS = 200

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 2rem auto; padding: 0 1rem; color: #212529 }
h1 { margin-bottom: 0 } h2 { margin-top: 2.5rem } .note { color: #5c636a }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .25rem .6rem; vertical-align: top;
border-bottom: 1px solid #dee2e6 } td.r, th.r { text-align: right; font-variant-numeric: tabular-nums }
pre { background: #f1f3f5; padding: .75rem 1rem; overflow-x: auto; font-size: 13px; line-height: 1.4 }
td.w { white-space: nowrap } svg { max-width: 100%; height: auto } .indent { padding-left: 1.6rem; color: #5c636a }
.low { color: #0b7285 } .medium { color: #946c00 } .high { color: #d9480f; font-weight: 600 }
.critical { color: #c92a2a; font-weight: 700 } .true { color: #2b8a3e } .false { color: #868e96 }

"""


def figures(watch: Watch) -> dict[str, Any]:
    """The summary as plain data."""
    return {
        "scenario": watch.scenario.name,
        "events": watch.feed.history_records + watch.feed.live_records,
        "live_events": watch.feed.live_records,
        "base_rate": watch.base_rate(),
        "history_incidents": watch.history_alerts,
        "model": watch.model,
        "statistical": _plain(watch.quality(trained=False)),
        "trained": _plain(watch.quality(trained=True)),
    }


def write(path: Path, watch: Watch) -> None:
    """Raises `StreamAdError` where the file cannot be written."""
    try:
        with replaced(path) as file:
            file.write_text(html(watch), encoding="utf-8")
    except OSError as error:
        raise StreamAdError(f"--report: {path} cannot be written: {error.strerror}") from None


def html(watch: Watch) -> str:
    from stream_ad.demo import plots

    both = [watch.quality(trained=False), watch.quality(trained=True)]
    speed = watch.scenario.speed(1.0)
    parts = [
        f"<h1>stream-ad demo: {escape(watch.scenario.title)}</h1>",
        f'<p class="note">{watch.feed.history_records:,} events of quiet history, then '
        f"{watch.feed.live_records:,} live ones with {len(watch.episodes())} injected episodes. One second on the wall "
        f"is about {duration(speed * _rate(watch))} of event time, so that days and drift can be seen.</p>",
        "<h2>Alerts against what was injected</h2>",
        _table(both, watch.base_rate()),
        '<p class="note">An incident is true when one of its alerts is about the key of an injected episode, from its '
        f"start to {duration(watch.scenario.tolerance_ms / 1000)} of event time after its end. “Alerts at random” is "
        "the precision that alerts on events picked by chance would have. Latency runs from the moment the event was "
        "sent to the moment the alert was read from its topic, both on this machine's clock; silences have none. "
        f"Besides, {watch.history_alerts} incidents were opened in the quiet history, all of them false.</p>",
    ]
    if watch.refused is not None:
        parts.append(f'<p class="note">The trained model was refused: {escape(watch.refused[1])}</p>')
    if any(quality.injected for quality in both):
        parts.append(plots.recall([("statistical", both[0]), ("trained", both[1])]))
    if watch.samples:
        parts += ["<h2>The worker</h2>", plots.course(watch)]
    if keys := plots.keys(watch):
        parts += [
            "<h2>Some keys</h2>",
            f'<p class="note">{escape(watch.scenario.plot_field)} over event time (UTC): episodes shaded, '
            "alerts as lines in the colour of their severity, dotted where nothing was injected. "
            "An episode can be in another field.</p>",
            keys,
        ]
    if any(alert.latency_ms is not None for alert in watch.alerts):
        parts += ["<h2>Event to alert</h2>", plots.latency(watch)]
    parts += ["<h2>Alerts</h2>", _alerts(watch), "<h2>The configuration</h2>", _settings(watch)]
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>stream-ad demo</title>'
        f"<style>{_STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def _rate(watch: Watch) -> float:
    samples = [sample for sample in watch.samples if sample.event_ms > watch.feed.live_ms]
    if len(samples) < 2:
        return 0.0
    wall_s = samples[-1].wall_s - samples[0].wall_s
    event_s = (samples[-1].event_ms - samples[0].event_ms) / 1000
    return event_s / max(wall_s, 1e-3) / watch.scenario.speed(1.0)


def _table(qualities: Sequence[Quality], base_rate: float) -> str:
    lines = ['<table><tr><th></th><th class="r">statistical scorer</th><th class="r">trained model</th></tr>']
    for label, cells in view.rows(qualities, base_rate):
        style = ' class="indent"' if label.startswith(" ") else ""
        columns = "".join(f'<td class="r">{escape(cell)}</td>' for cell in cells)
        lines.append(f"<tr><td{style}>{escape(label.strip())}</td>{columns}</tr>")
    return "".join(lines) + "</table>"


def _alerts(watch: Watch) -> str:
    alerts = [alert for alert in watch.alerts if alert.phase != "resolved"]
    true = matches(watch.episodes(), alerts, watch.scenario.tolerance_ms)
    kinds = {episode.id: episode.kind for episode in watch.episodes()}
    lines = [
        f'<p class="note">The latest {min(len(alerts), SHOWN_ALERTS)} of {len(alerts)}; resolutions left out.</p>'
        "<table><tr><th>severity</th><th>injected</th><th>model</th><th>alert</th></tr>"
    ]
    for alert in reversed(alerts[-SHOWN_ALERTS:]):
        episode = true.get(alert.incident)
        label = f'<td class="true w">{escape(kinds[episode])}</td>' if episode else '<td class="false w">nothing</td>'
        lines.append(
            f'<tr><td class="{alert.severity}">{alert.severity}</td>{label}'
            f'<td class="w">{escape(alert.model)}</td><td>{escape(alert.summary)}</td></tr>'
        )
    return "".join(lines) + "</table>"


def _settings(watch: Watch) -> str:
    settings = watch.settings
    beside = "\n".join(f"{name}={text}" for name, text in settings.beside.items())
    return (
        f'<p class="note"><code>{escape(settings.command)}</code> wrote this file from a sample of the quiet history. '
        f"Nothing in it was chosen for this demo.</p><pre>{escape(settings.file)}</pre>"
        '<p class="note">The environment adds only where the embedded servers are, and what the first model '
        f"learns from:</p><pre>{escape(beside)}</pre>"
    )


def _plain(quality: Quality) -> dict[str, Any]:
    return {
        "incidents": quality.incidents,
        "true": quality.true,
        "precision": quality.precision,
        "injected": quality.injected,
        "found": quality.found,
        "recall": quality.recall,
        "kinds": {kind.kind: {"injected": kind.injected, "found": kind.found} for kind in quality.kinds},
        "latency_p50_ms": quality.latency_p50_ms,
        "latency_p99_ms": quality.latency_p99_ms,
    }
