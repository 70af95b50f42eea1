"""What the folds that learn and judge shall not see, by the calendar and the valid ranges of the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from stream_ad.batch import KeyedBatch, WindowBatch
from stream_ad.config import Config
from stream_ad.fold.calendar import Calendar
from stream_ad.fold.valid import ValidRanges


class Hidden:
    """It has no state: what is hidden follows from the event."""

    def __init__(self, config: Config, numeric: Sequence[str]) -> None:
        self.calendar = Calendar(config.calendar)
        self._valid = ValidRanges(config.rules, numeric)

    def hide(self, batch: KeyedBatch) -> KeyedBatch:
        """The batch in which invalid values, and all fields of quiet events, are marked and missing."""
        return self.calendar.hide(self._valid.hide(batch))

    def judged(self, batch: WindowBatch) -> WindowBatch:
        """The batch without those events to be scored that are quiet."""
        quiet = batch.keyed.quiet
        return replace(batch, emit=batch.emit & ~quiet) if quiet.any() else batch
