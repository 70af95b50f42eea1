"""Measures every registered scorer alone on the same rows, on the CPU and on a CUDA device where one is there."""

from __future__ import annotations

import statistics
import time

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks import load
from stream_ad import config, registry
from stream_ad.batch import F32
from stream_ad.config.features import FeatureSpec
from stream_ad.protocols import BUILT_IN
from stream_ad.score.engine import Engine
from stream_ad.score.train import train

LEARNT_ROWS = 20_000
AT_ONCE = 16_384  # rows of one batch, across all keys
COMPARED = "autoencoder"


def main(console: Console, rounds: int, scale: int) -> dict[str, dict[str, list[float]]]:
    """Rows per second of each device and scorer, one figure a round; prints the medians beside the autoencoder's."""
    parsed = load.config("", "redis://", "scorers", "scorers", 1_000)
    spec = FeatureSpec.of(parsed)
    x = _rows(4 * AT_ONCE // scale, spec)
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    figures: dict[str, dict[str, list[float]]] = {device: {} for device in devices}
    engines = {device: Engine(config.Scoring(device=device), spec) for device in devices}
    names = registry.names("scorer")
    for name in names:
        options = parsed.train.model_copy(update={"scorer": name})
        with console.status(f"training: {name}"):
            learnt = _rows(LEARNT_ROWS // scale, spec)
            made = train(learnt, np.arange(len(learnt)) * 1000, spec, options, "noise", 0) if name != BUILT_IN else None
        for device, engine in engines.items():
            loaded = engine.load(made and made.to_bytes())
            engine.submit(loaded, [x[:AT_ONCE]]).result()
            rates = figures[device].setdefault(name, [])
            for number in range(rounds):
                with console.status(f"{name} on {device}: round {number + 1} of {rounds}"):
                    began = time.perf_counter()
                    for first in range(0, len(x), AT_ONCE):
                        engine.submit(loaded, [x[first : first + AT_ONCE]]).result()
                    rates.append(len(x) / (time.perf_counter() - began))
    for engine in engines.values():
        engine.close()
    _report(console, figures, spec)
    return figures


def _rows(n: int, spec: FeatureSpec) -> F32:
    """[n,w,f] of noise: what a scorer takes for a row does not depend on what it finds."""
    rows: F32 = np.random.default_rng(0).standard_normal((n, spec.rows, len(spec.features)), np.float32)
    return rows


def _report(console: Console, figures: dict[str, dict[str, list[float]]], spec: FeatureSpec) -> None:
    median = {device: {name: statistics.median(each) for name, each in own.items()} for device, own in figures.items()}
    table = Table("scorer", title=f"rows/s, {spec.rows} × {len(spec.features)} values a row")
    for device in figures:
        for column in (device, f"÷ {COMPARED}"):
            table.add_column(column, justify="right")
    if "cuda" in figures:
        table.add_column("cuda ÷ cpu", justify="right")
    for name in median["cpu"]:
        cells = [cell for own in median.values() for cell in (f"{own[name]:,.0f}", f"{own[name] / own[COMPARED]:.2f}")]
        if "cuda" in figures:
            cells.append(f"{median['cuda'][name] / median['cpu'][name]:.2f}")
        table.add_row(name, *cells)
    console.print(table)
