"""The demo in a terminal, as a live screen or as plain lines."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from stream_ad.demo.measure import Quality, ReceivedAlert, matches
from stream_ad.demo.watch import Watch

COLOURS = {"low": "cyan", "medium": "yellow", "high": "dark_orange", "critical": "bold red"}
_BARS = "▁▂▃▄▅▆▇█"


def screen(watch: Watch, phase: str, height: int, width: int) -> RenderableType:
    layout = Layout()
    layout.split_column(
        Layout(_head(watch, phase), size=3),
        Layout(_state(watch, width), size=8),
        Layout(_alerts(watch, height - 13)),
        Layout(Text(" Ctrl-C ends the demo and writes the report", style="dim"), size=1),
    )
    return layout


def line(watch: Watch, phase: str) -> str:
    """The state of the demo in one line."""
    quality, figures = watch.quality(), watch.figures
    parts = [f"{watch.elapsed_s():5.0f} s", phase]
    if figures is not None:
        rate = watch.samples[-1].events_per_s
        parts += [f"{rate:,.0f} events/s", f"lag {watch.lag():,}", f"{figures.keys:,} keys", f"model {watch.model}"]
    if watch.alerts:
        parts += [f"{quality.incidents} incidents", f"precision {percent(quality.precision)}"]
        parts += [f"recall {percent(quality.recall)}"]
    return " · ".join(parts)


def alert_line(alert: ReceivedAlert) -> str:
    return f"        {alert.severity:<8} {alert.summary}"


def percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"


def milliseconds(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f} ms"


def sparkline(values: Sequence[float], top: float) -> str:
    """One character per value, from 0 to `top`."""
    steps = len(_BARS) - 1
    return "".join(_BARS[round(min(max(value / max(top, 1e-9), 0.0), 1.0) * steps)] for value in values)


def summary(watch: Watch) -> Table:
    """The quality of the alerts, for the two models side by side."""
    table = Table(title=f"{watch.scenario.title}: alerts against what was injected", title_justify="left")
    for name in ("", "statistical", "trained"):
        table.add_column(name, justify="left" if not name else "right")
    both = [watch.quality(trained=False), watch.quality(trained=True)]
    for label, cells in rows(both, watch.base_rate()):
        table.add_row(label, *cells)
    return table


def rows(qualities: Sequence[Quality], base_rate: float) -> list[tuple[str, list[str]]]:
    """(label, one cell per model), for the summary and the report."""
    table: list[tuple[str, list[str]]] = [
        ("precision, incidents", [f"{percent(q.precision)} ({q.true} of {q.incidents})" for q in qualities]),
        ("  alerts at random", [f"{base_rate:.1%}" for _ in qualities]),
        ("recall, episodes", [f"{percent(q.recall)} ({q.found} of {q.injected})" for q in qualities]),
    ]
    for kind in sorted({recall.kind for quality in qualities for recall in quality.kinds}):
        cells = []
        for quality in qualities:
            recall = next((recall for recall in quality.kinds if recall.kind == kind), None)
            cells.append("–" if recall is None else f"{recall.found} of {recall.injected}")
        table.append((f"  {kind}", cells))
    table.append(("event to alert, median", [milliseconds(q.latency_p50_ms) for q in qualities]))
    table.append(("event to alert, 99 %", [milliseconds(q.latency_p99_ms) for q in qualities]))
    return table


def _head(watch: Watch, phase: str) -> RenderableType:
    text = Text.assemble(
        (f" {watch.scenario.title} ", "bold reverse"), "  ", (phase, "bold"), f"  {watch.elapsed_s():.0f} s"
    )
    return Panel(text, title="stream-ad demo", title_align="left", border_style="blue")


def _state(watch: Watch, width: int) -> RenderableType:
    figures, quality = watch.figures, watch.quality()
    rate = f"{watch.samples[-1].events_per_s:,.0f}" if watch.samples else "–"
    left = Table.grid(padding=(0, 1))
    left.add_column(style="dim")
    left.add_column(justify="right")
    left.add_row("events/s", rate)
    left.add_row("lag", f"{watch.lag():,}" if figures else "–")
    left.add_row("keys", f"{figures.keys:,}" if figures else "–")
    left.add_row("model", Text(watch.model, style="bold green" if watch.swapped_s is not None else "bold"))
    left.add_row("precision", f"{percent(quality.precision)} of {quality.incidents} incidents")
    left.add_row("recall", f"{percent(quality.recall)} of {quality.injected} episodes")
    grid = Table.grid(expand=True)
    grid.add_column(width=42)
    grid.add_column(ratio=1)
    grid.add_row(Panel(left, title="worker", title_align="left"), Panel(_scores(watch, width - 48), title="score"))
    return grid


def _scores(watch: Watch, width: int) -> RenderableType:
    recent = list(watch.samples)[-max(width - 12, 8) :]
    if not recent:
        return Text("\nwaiting for the first event", style="dim")
    top = max(1.5 * recent[-1].threshold, max(sample.threshold for sample in recent), 1.0)
    line = Text("score     ")
    for sample in recent:
        over = sample.score > sample.threshold
        line.append(sparkline([sample.score], top), style="bold red" if over else "green")
    threshold = Text("threshold ") + Text(sparkline([sample.threshold for sample in recent], top), style="yellow")
    rates = [sample.events_per_s for sample in recent]
    speed = Text("events/s  ") + Text(
        sparkline(rates, sorted(rates)[int(0.95 * (len(rates) - 1))]),  # a scale without the peak of the history
        style="blue",
    )
    opened = [alert for alert in watch.alerts if alert.phase == "opened" and alert.score is not None][-1:]
    last = Text(f"now {recent[-1].score:.2f} against {recent[-1].threshold:.2f}", style="dim")
    if opened:
        last.append(f" · last incident {opened[0].score:.1f} against {opened[0].threshold:.1f}")
    return Group(line, threshold, speed, Text(), last)


def _alerts(watch: Watch, count: int) -> RenderableType:
    recent = list(watch.alerts)[-60:]
    true = matches(watch.episodes(), recent, watch.scenario.tolerance_ms)
    kinds = {episode.id: episode.kind for episode in watch.episodes()}
    table = Table(expand=True, box=None, padding=(0, 1), show_header=True, header_style="dim")
    table.add_column("severity", width=8)
    table.add_column("injected", width=24, no_wrap=True)
    table.add_column("alert", ratio=1)
    shown = [alert for alert in reversed(recent) if alert.phase != "resolved"]
    for alert in shown[: max(count // 2, 3)]:
        episode = true.get(alert.incident)
        label = Text(kinds[episode], style="green") if episode is not None else Text("nothing", style="dim")
        table.add_row(Text(alert.severity, style=COLOURS[alert.severity]), label, Text(alert.summary))
    return Panel(table, title="latest alerts", title_align="left", border_style="red" if shown else "dim")
