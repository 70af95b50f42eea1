"""The report's pictures, as SVG text."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.dates import ConciseDateFormatter
from matplotlib.ticker import StrMethodFormatter

from stream_ad.demo.measure import Quality, ReceivedAlert, matches
from stream_ad.demo.simulate import Episode
from stream_ad.demo.watch import Watch

KEYS = 6
_STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "svg.fonttype": "path",
    "figure.constrained_layout.use": True,
}
_SEVERITY = {"low": "#17a2b8", "medium": "#d9a400", "high": "#e8590c", "critical": "#c92a2a"}


def course(watch: Watch) -> str:
    """Throughput, lag, score against threshold over the wall clock."""
    samples = list(watch.samples)
    seconds = [sample.wall_s for sample in samples]
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(3, 1, figsize=(10, 6), sharex=True)
        axes[0].plot(seconds, [sample.events_per_s for sample in samples], color="#1c7ed6")
        axes[0].set_ylabel("events/s")
        axes[0].set_yscale("symlog", linthresh=100)
        axes[1].plot(seconds, [sample.lag for sample in samples], color="#7048e8")
        axes[1].set_ylabel("lag, events")
        axes[1].set_yscale("symlog", linthresh=100)
        axes[2].plot(seconds, [sample.score for sample in samples], color="#2b8a3e", label="score, latest event")
        axes[2].plot(seconds, [sample.threshold for sample in samples], color="#e67700", label="its threshold")
        axes[2].set_ylabel("score")
        axes[2].set_xlabel("seconds since the start (wall clock)")
        for axis in axes:
            if watch.swapped_s is not None:
                axis.axvline(watch.swapped_s, color="black", linestyle="--", linewidth=1, label="trained model")
            _plain(axis)
        figure.legend(*axes[2].get_legend_handles_labels(), loc="outside upper right", frameon=False, ncols=3)
        return _svg(figure)


def keys(watch: Watch) -> str:
    """A field over time for one key per kind of anomaly, with episodes shaded and alerts marked; empty before the first
    episode has ended."""
    chosen = _chosen(watch.episodes(), list(watch.alerts), watch)
    if not chosen:
        return ""
    alerts = [alert for alert in watch.alerts if alert.phase != "resolved"]
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(len(chosen), 1, figsize=(10, 2 * len(chosen) + 0.3), squeeze=False)
        for axis, episode in zip(axes[:, 0], chosen, strict=True):
            _key(axis, watch, episode, [alert for alert in alerts if alert.key == episode.key])
        return _svg(figure)


def recall(qualities: Sequence[tuple[str, Quality]]) -> str:
    """Found and missed episodes of each kind."""
    kinds = sorted({kind.kind for _, quality in qualities for kind in quality.kinds})
    with plt.rc_context({**_STYLE, "axes.grid": False}):
        figure, axes = plt.subplots(1, len(qualities), figsize=(10, 0.5 + 0.4 * max(len(kinds), 1)), sharey=True)
        for axis, (name, quality) in zip(axes, qualities, strict=True):
            counts = {kind.kind: kind for kind in quality.kinds}
            found = [counts[kind].found if kind in counts else 0 for kind in kinds]
            missed = [counts[kind].injected - counts[kind].found if kind in counts else 0 for kind in kinds]
            axis.barh(kinds, found, color="#2b8a3e", label="found")
            axis.barh(kinds, missed, left=found, color="#ced4da", label="missed")
            axis.set_title(name, fontsize=9)
            axis.xaxis.get_major_locator().set_params(integer=True)
        figure.legend(*axes[-1].get_legend_handles_labels(), loc="outside lower right", frameon=False, ncols=2)
        return _svg(figure)


def latency(watch: Watch) -> str:
    """Times from event sent to alert read."""
    values = [alert.latency_ms for alert in watch.alerts if alert.latency_ms is not None]
    with plt.rc_context(_STYLE):
        figure, axis = plt.subplots(figsize=(10, 2.2))
        axis.hist(values, bins=40, color="#1c7ed6")
        axis.set_xlabel("event to alert, ms")
        axis.set_ylabel("incidents")
        return _svg(figure)


def _chosen(episodes: Sequence[Episode], alerts: Sequence[ReceivedAlert], watch: Watch) -> list[Episode]:
    """The latest episode of each kind, whether found or missed."""
    first_ms = watch.feed.recent[0][1] if watch.feed.recent else 0
    after_ms = 2 * watch.scenario.tolerance_ms  # so that the plot also shows normal events
    over = [one for one in episodes if first_ms <= one.start_ms and one.end_ms + after_ms <= watch.settled_ms]
    chosen: list[Episode] = []
    for episode in reversed(over):
        if len(chosen) < KEYS and episode.kind not in {one.kind for one in chosen}:
            chosen.append(episode)
    false = {alert.key for alert in alerts} - {episode.key for episode in episodes}
    for alert in reversed(alerts):
        if alert.key in false and alert.phase == "opened" and len(chosen) < KEYS:
            # the plots include a false alarm too
            chosen.append(Episode(0, "nothing injected", alert.key, alert.event_ms, alert.event_ms))
            break
    return chosen


def _key(axis: Any, watch: Watch, episode: Episode, alerts: Sequence[ReceivedAlert]) -> None:
    around_ms = 6 * watch.scenario.tolerance_ms
    low, high = episode.start_ms - around_ms, episode.end_ms + around_ms // 2
    name = episode.key.encode()
    points = [(ts_ms, value) for key, ts_ms, value in list(watch.feed.recent) if key == name and low <= ts_ms <= high]
    axis.plot(
        [_time(ts) for ts, _ in points], [value for _, value in points], ".-", color="#495057", linewidth=0.6, ms=3
    )
    shown = [one for one in watch.episodes() if one.key == episode.key and low <= one.start_ms <= high]
    pad_ms = around_ms // 150
    for one in shown:
        axis.axvspan(_time(one.start_ms - pad_ms), _time(one.end_ms + pad_ms), color="#ffa8a8", alpha=0.5, linewidth=0)
    true = matches(shown, alerts, watch.scenario.tolerance_ms)
    for alert in alerts:
        if low <= alert.event_ms <= high:
            style = "-" if alert.incident in true else ":"
            axis.axvline(_time(alert.event_ms), color=_SEVERITY[alert.severity], linestyle=style, linewidth=1.2)
    if watch.scenario.log_scale:
        axis.set_yscale("symlog", linthresh=10)
        _plain(axis)
    axis.set_ylabel(watch.scenario.plot_field)
    axis.set_title(f"{episode.key}: {episode.kind}", fontsize=9, loc="left")
    axis.xaxis.set_major_formatter(ConciseDateFormatter(axis.xaxis.get_major_locator()))


def _plain(axis: Any) -> None:
    """From zero, and 1,000 instead of 10³."""
    axis.set_ylim(bottom=0)
    axis.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _time(ts_ms: int) -> datetime:
    return datetime.fromtimestamp(ts_ms / 1000, UTC)


def _svg(figure: Any) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    plt.close(figure)
    return out.getvalue().partition("<svg")[1] + out.getvalue().partition("<svg")[2]
