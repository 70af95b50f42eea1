"""Warns of rejects and of late events in the log of the process."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from stream_ad.batch import Message, RawBatch

log = logging.getLogger(__name__)

EVERY_S = 10.0


class _Sum:
    """A count that is to be said every ten seconds at most."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self.count = clock, 0
        self._said_at = clock() - EVERY_S

    def add(self, count: int) -> bool:
        """Whether to say it now."""
        self.count += count
        now = self._clock()
        if not count or now - self._said_at < EVERY_S:
            return False
        self._said_at = now
        return True


class RejectLog:
    """Logs the count, and code and field of the latest reject. What the field held is for the rejects topic alone."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._sum = _Sum(clock)

    def note(self, rejects: Sequence[Message]) -> None:
        """Counts `rejects`, which `messages.rejects` made."""
        if self._sum.add(len(rejects)):
            said = {name: (value or b"").decode(errors="replace") for name, value in rejects[-1].headers}
            where = f"{said['reject_topic']}/{said['reject_partition']}/{said['reject_offset']}"
            why = ": ".join(said["reject_reason"].split(": ")[:2])
            log.warning("%d records rejected so far, the latest at %s: %s", self._sum.count, where, why)


class LateLog:
    """Logs how many late events were dropped."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._sum = _Sum(clock)

    def note(self, dropped: int, raw: RawBatch) -> None:
        """Counts what was dropped of the batch `raw`."""
        if self._sum.add(dropped):
            log.warning(
                "%d late events dropped so far, the latest of %s/%d before offset %d: they lie further behind the "
                "newest event time than window.allowed_lateness; see window.late",
                self._sum.count, raw.topic, raw.partition, raw.next_offset,
            )  # fmt: skip
