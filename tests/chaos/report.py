"""What a run says at its end: a table, a plot, and the figures as JSON."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import matplotlib as mpl
import numpy as np

from tests.chaos.run import Outcome

mpl.use("Agg")
from matplotlib import pyplot as plt

HEAD = f"{'fault':44} {'times':>6} {'p50 s':>7} {'p99 s':>7} {'most s':>7}"


def recoveries(outcomes: Sequence[Outcome]) -> dict[str, list[float]]:
    """Kind of fault -> seconds until all that was in the topic at that moment was committed."""
    found: dict[str, list[float]] = defaultdict(list)
    for outcome in outcomes:
        for each in outcome.injected:
            found[each.kind].append(float("nan") if each.recovered_s is None else each.recovered_s)
    return dict(sorted(found.items()))


def table(outcomes: Sequence[Outcome]) -> str:
    lines = [HEAD]
    for kind, seconds in recoveries(outcomes).items():
        known = [value for value in seconds if value == value] or [float("nan")]
        p50, p99 = np.percentile(known, [50, 99])
        lines.append(f"{kind:44} {len(seconds):6} {p50:7.1f} {p99:7.1f} {max(known):7.1f}")
    return "\n".join(lines)


def summary(outcomes: Sequence[Outcome]) -> str:
    def total(name: str) -> int:
        return sum(len(value) if isinstance(value := getattr(outcome, name), list) else value for outcome in outcomes)

    lines = [
        f"{total('events'):,} events, {total('anomalies'):,} of them labelled; {total('injected'):,} faults",
        f"{total('alerts'):,} alerts and {total('rejects'):,} rejects: "
        f"{total('lost')} lost, {total('duplicated')} duplicated, {total('different')} different",
    ]
    for outcome in outcomes:
        for name in ("lost", "duplicated", "different", "odd"):
            lines += [f"  seed {outcome.settings.seed}: {name}: {text}" for text in getattr(outcome, name)[:5]]
        if outcome.missed:
            lines.append(f"  seed {outcome.settings.seed}: not reached: {', '.join(outcome.missed)}")
    return "\n".join(lines)


def write(outcomes: Sequence[Outcome], folder: Path) -> None:
    """`chaos.json`, `chaos.txt`, `chaos.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "chaos.json").write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1))
    (folder / "chaos.txt").write_text(f"{table(outcomes)}\n\n{summary(outcomes)}\n")
    draw(outcomes, folder / "chaos.png")


def draw(outcomes: Sequence[Outcome], target: Path) -> None:
    found = {kind: [s for s in seconds if s == s] for kind, seconds in recoveries(outcomes).items()}
    found = dict(sorted(found.items(), key=lambda item: np.median(item[1]) if item[1] else 0.0))
    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.24 * len(found)), layout="constrained")
    for row, (kind, seconds) in enumerate(found.items()):
        colour = "tab:orange" if kind.startswith("killed ") else "tab:blue"
        axes.plot(seconds, [row] * len(seconds), "|", color=colour, alpha=0.6, markersize=9)
        if seconds:
            axes.plot(np.median(seconds), row, "o", color=colour, markersize=5)
    axes.set_yticks(range(len(found)), [f"{kind} ({len(seconds)})" for kind, seconds in found.items()], fontsize=7)
    axes.set_xlabel("seconds until all that was there at the fault is committed; dots are medians")
    axes.set_title("Recovery by kind of fault; orange: killed at a port call", fontsize=10)
    axes.set_xlim(left=0)
    axes.set_ylim(-1, len(found))
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(target, dpi=110)
    plt.close(figure)
