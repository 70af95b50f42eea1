"""A labelled stream in a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def labelled_csv(path: Path, rows: int, every: int) -> None:
    """A value `a` of one key each second; one in `every` is far out and labelled."""
    noise = np.random.default_rng(0)
    lines = ["k,t,a,label"]
    for number in range(rows):
        odd = number % every == every - 1
        lines.append(f"key,{1_700_000_000_000 + 1000 * number},{noise.normal() + 30 * odd},{int(odd)}")
    path.write_text("\n".join(lines) + "\n")
