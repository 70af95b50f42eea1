"""Batches between the scorer and the alerts, made by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stream_ad.batch import Scores, Verdicts
from stream_ad.testing import scores
from stream_ad.testing.samples import NOW_MS as NOW

__all__ = ["NOW", "scores", "verdicts"]


def verdicts(batch: Scores, p: Sequence[float], shift: Sequence[int] = ()) -> Verdicts:
    """A score is flagged where its p-value is below 1e-3."""
    p_value = np.array(p, np.float64)
    shifted = np.zeros(len(p_value), np.bool_)
    shifted[list(shift)] = True
    return Verdicts(batch, np.full(len(p_value), 3.0), batch.score, p_value, p_value < 1e-3, shifted)
