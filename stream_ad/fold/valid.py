"""Takes values outside their field's valid range for what they are not: measurements.

Such a value is told by an incident of the rule `range`. To the folds that follow it is missing: nothing learns it, and
no score is made of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from stream_ad.batch import F64, KeyedBatch
from stream_ad.config.rules import Rules


class ValidRanges:
    """The valid ranges of a pipeline's numeric fields. It has no state."""

    def __init__(self, rules: Rules, numeric: Sequence[str]) -> None:
        bounds = [rules.valid.get(field, (-np.inf, np.inf)) for field in numeric]
        self._any = bool(rules.valid)
        self._low: F64 = np.array([low for low, _ in bounds])
        self._high: F64 = np.array([high for _, high in bounds])

    def hide(self, batch: KeyedBatch) -> KeyedBatch:
        """The batch with the fields outside their range marked, and missing."""
        if not self._any:
            return batch
        values = batch.events.values
        outside = (values < self._low) | (values > self._high)
        rows = outside.any(axis=1)
        if not rows.any():
            return batch
        hidden = replace(batch.events, values=np.where(outside, np.nan, values))
        return replace(batch, events=hidden, outside=np.where(rows, outside.argmax(axis=1), -1).astype(np.int32))
