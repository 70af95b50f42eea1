"""The training report: one HTML page that needs nothing else."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from stream_ad.score.bundle import Bundle

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:left;border-bottom:1px solid #ddd}"
    "td.figure{text-align:right;font-variant-numeric:tabular-nums}svg{max-width:100%;height:auto}"
)


def write_report(bundle: Bundle, path: Path) -> None:
    """Writes `render(bundle)` to `path`."""
    path.write_text(render(bundle), encoding="utf-8")


def render(bundle: Bundle) -> str:
    """The page: loss by epoch, held-back scores beside the statistical scorer's, share of the error by feature."""
    m = bundle.manifest
    facts: list[tuple[str, str]] = [
        ("version", bundle.version),
        ("scorer", m.kind),
        ("trained on", m.source),
        ("event time", f"{_time(m.first_ms)} to {_time(m.last_ms)}"),
        ("rows", f"{m.rows:,}"),
        ("architecture", ", ".join(f"{name} {value}" for name, value in m.architecture.items())),
        *((name.replace("_", " "), f"{value:,.6g}") for name, value in m.metrics.items()),
        ("sha256", m.sha256),
    ]
    features = [
        (feature.name, f"{share:.1%}", f"{spread:.4g}")
        for feature, share, spread in zip(
            bundle.spec.features, m.quality["feature_share"], m.quality["feature_spread"], strict=True
        )
    ]
    return page(
        bundle.version,
        f"<h1>Model {escape(bundle.version)}</h1>"
        + table((), facts)
        + "<h2>Loss</h2><p>The held-back rows are the latest in time; the dashed line predicts every feature's "
        "median.</p>"
        + plot(lambda axes: _losses(axes, bundle))
        + "<h2>Scores of the held-back rows</h2><p>Calibrated: about mean 0 and standard deviation 1 where rows are "
        "normal; what lies far to the right is anomalous or new.</p>"
        + plot(lambda axes: _scores(axes, bundle))
        + "<h2>Features</h2><p>Share of the error on held-back rows, and the standard deviation of observed less "
        "expected in the feature's own unit.</p>" + table(("feature", "share of the error", "spread"), features),
    )


def page(title: str, body: str) -> str:
    """A page that needs no other file; `body` is HTML."""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style>{body}</html>\n"
    )


def _time(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def table(head: tuple[str, ...], rows: list[Any]) -> str:
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    body = "".join(
        f"<tr><td>{escape(row[0])}</td>"
        + "".join(f'<td class="figure">{escape(cell)}</td>' for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return f"<table>{f'<tr>{titles}</tr>' if titles else ''}{body}</table>"


def plot(draw: Callable[[Any], None]) -> str:
    """SVG of what `draw` does to axes; the same every time."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    FigureCanvasSVG(figure)
    draw(figure.add_subplot())
    out = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "stream_ad"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def _losses(axes: Any, bundle: Bundle) -> None:
    quality = bundle.manifest.quality
    epochs = range(1, len(quality["train_loss"]) + 1)
    axes.plot(epochs, quality["train_loss"], marker=".", label="training")
    axes.plot(epochs, quality["held_loss"], marker=".", label="held back")
    axes.axhline(bundle.manifest.metrics["baseline_loss"], color="grey", linestyle="--", label="median")
    axes.set(xlabel="epoch", ylabel="loss")
    axes.legend()


def _scores(axes: Any, bundle: Bundle) -> None:
    quality = bundle.manifest.quality
    edges = np.asarray(quality["score_edges"])
    axes.stairs(quality["scores"], edges, fill=True, alpha=0.6, label=bundle.manifest.kind)
    axes.stairs(quality["statistical_scores"], edges, color="black", label="statistical")
    axes.set(xlabel="score", ylabel="rows", yscale="symlog")
    axes.legend()
