"""The report of an evaluation: a section of HTML with plots for each detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from html import escape
from itertools import pairwise
from typing import Any

import numpy as np

from stream_ad.batch import I64
from stream_ad.evaluation.figures import DAY_MS
from stream_ad.evaluation.labelled import Answers, Stream
from stream_ad.evaluation.ranking import Ranking, spans
from stream_ad.score.report import page, plot, table

KEYS = 4  # whose scores are drawn: those with most labelled rows
POINTS = 3000  # of a key that are drawn; of more, the highest score of each stretch
CURVE = 500  # points of a precision-recall curve
WORST = 8  # keys in the table of false alarms


def report(title: str, table_html: str, sections: Sequence[str]) -> str:
    """The page: the figures, then a section for each detector."""
    return page(title, f"<h1>{escape(title)}</h1>{table_html}{''.join(sections)}")


def section(name: str, stream: Stream, beside: Mapping[str, Answers]) -> str:
    answers = stream.answers
    parts = [
        f"<h2>{escape(name)}</h2><h3>Precision and recall</h3><p>At every threshold; the cross is its own.</p>",
        plot(lambda axes: _curves(axes, {name: answers, **beside})),
        "<h3>Scores</h3><p>The keys with most labelled records. Labelled stretches are shaded, flags are dots.</p>",
    ]
    for key in _most_labelled(answers):
        parts += [f"<h4>{escape(stream.names[key])}</h4>", plot(partial(_scores, stream=stream, key=key))]
    parts += [
        "<h3>Delay</h3><p>Records of the key from the start of a labelled stretch to its first flag.</p>",
        plot(lambda axes: _delays(axes, answers)),
        "<h3>False alarms</h3><p>Flags of normal records by day of event time, and the keys that have most.</p>",
        plot(lambda axes: _days(axes, answers)),
        table(("key", "false alarms", "of its normal records"), _worst(stream)),
    ]
    return "".join(parts)


def _most_labelled(answers: Answers) -> list[int]:
    labelled = np.bincount(answers.key[answers.label & answers.counted], minlength=1)
    return [int(key) for key in np.argsort(-labelled, kind="stable")[:KEYS] if labelled[key]]


def _curves(axes: Any, detectors: Mapping[str, Answers]) -> None:
    for name, answers in detectors.items():
        counted = answers.take(np.flatnonzero(answers.counted))
        true, false = Ranking.of(counted.score, counted.label).curve()
        if not len(true) or not true[-1]:
            continue
        at = np.unique(np.searchsorted(true, np.linspace(1.0, true[-1], CURVE)))
        (line,) = axes.plot(true[at] / true[-1], true[at] / (true[at] + false[at]), label=name, linewidth=1)
        flagged = int(counted.flag.sum())
        if flagged:
            hits = int((counted.flag & counted.label).sum())
            axes.plot(hits / true[-1], hits / flagged, "x", color=line.get_color())
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    if axes.lines:
        axes.legend(fontsize="small")
    else:
        axes.text(0.5, 0.5, "no record is labelled", ha="center")


def _scores(axes: Any, stream: Stream, key: int) -> None:
    rows = np.flatnonzero(stream.answers.key == key)
    answers = stream.answers.take(rows)
    for first, last in spans(answers.label):
        axes.axvspan(first - 0.5, last + 0.5, color="#ffd8a8", linewidth=0)
    drawn = _highest(answers.score)
    axes.plot(drawn, answers.score[drawn], color="#1c7ed6", linewidth=0.6, label="score")
    axes.plot(drawn, stream.threshold[rows][drawn], color="#868e96", linewidth=0.8, label="threshold")
    flags = np.flatnonzero(answers.flag)
    axes.plot(flags, answers.score[flags], ".", color="#e03131", markersize=4, label="flag")
    first, last = (f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M}" for ms in answers.ts_ms[[0, -1]])
    axes.set(xlabel=f"record of the key, {first} to {last}", ylabel="score", xlim=(0, len(answers)))
    axes.legend(fontsize="small", loc="upper right")


def _highest(score: np.ndarray[Any, Any]) -> I64:
    """The rows to draw: all, or the highest of each stretch."""
    if len(score) <= POINTS:
        return np.arange(len(score))
    cuts = np.linspace(0, len(score), POINTS + 1).astype(int)
    return np.array([first + int(np.argmax(score[first:last])) for first, last in pairwise(cuts)])


def _delays(axes: Any, answers: Answers) -> None:
    delays, missed = [], 0
    for one in answers.series():
        for first, last in spans(one.label):
            flags = np.flatnonzero(one.flag[first : last + 1])
            if len(flags):
                delays.append(int(flags[0]))
            else:
                missed += 1
    edges = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, np.inf]
    counts = np.histogram(delays, edges)[0].tolist()
    labels = ["0", "1", *(f"{a}–{b - 1}" for a, b in pairwise(edges[2:-1])), "512 –", "missed"]
    axes.bar(labels, [*counts, missed], color=["#2b8a3e"] * len(counts) + ["#ced4da"])
    axes.set(ylabel="stretches")
    axes.tick_params(axis="x", labelsize="small", rotation=30)


def _days(axes: Any, answers: Answers) -> None:
    counted = answers.take(np.flatnonzero(answers.counted))
    day = counted.ts_ms // DAY_MS
    false = day[counted.flag & ~counted.label]
    first, last = int(day.min()), int(day.max())
    axes.bar(
        np.arange(last - first + 1), np.bincount(false - first, minlength=last - first + 1), color="#e03131", width=1.0
    )
    axes.set(xlabel=f"days from {datetime.fromtimestamp(first * 86_400, UTC):%Y-%m-%d}", ylabel="false alarms")


def _worst(stream: Stream) -> list[tuple[str, str, str]]:
    answers = stream.answers
    normal = answers.counted & ~answers.label
    keys = len(stream.names)
    false, all_rows = (np.bincount(answers.key[rows], minlength=keys) for rows in (normal & answers.flag, normal))
    worst = [int(key) for key in np.argsort(-false, kind="stable")[:WORST] if false[key]]
    return [(stream.names[key], f"{false[key]:,}", f"{false[key] / all_rows[key]:.2%}") for key in worst]
