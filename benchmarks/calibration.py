"""Compares the false-alarm rate that is stated with the one that is realised on streams without anomalies."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from tests.support.clean_streams import KEYS, ROWS, STREAMS, flagged, values_of

RATES = {1e-2: 0.2, 1e-3: 0.2, 1e-4: 0.5}  # and by how much the realised one may be off


def main(console: Console, scale: int) -> dict[str, dict[str, list[float]]]:
    """Realised ÷ stated of each stream and rate: over all keys, and of the key that has most flags."""
    table = Table("stream", title=f"realised ÷ stated, {KEYS} keys × {ROWS // scale:,} rows (most of one key)")
    for rate, off in RATES.items():
        table.add_column(f"{rate:g} ± {off:.0%}", justify="right")
    figures: dict[str, dict[str, list[float]]] = {}
    for name in [*STREAMS, "mixed"]:
        values, cells = values_of(name, ROWS // scale), []
        figures[name] = {}
        for rate, off in RATES.items():
            with console.status(f"{name}: {rate:g}"):
                flags = flagged(values, rate)
            ratio, most = float(flags.mean()) / rate, float(flags.mean(axis=0).max()) / rate
            figures[name][f"{rate:g}"] = [ratio, most]
            cells.append(f"{ratio:.2f} ({most:.1f}) {'✓' if abs(ratio - 1) <= off else '✗'}")
        table.add_row(name, *cells)
    console.print(table)
    return figures
