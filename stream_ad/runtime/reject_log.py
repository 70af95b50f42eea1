"""Warns of rejects in the log of the process."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from stream_ad.batch import Message

log = logging.getLogger(__name__)

EVERY_S = 10.0


class RejectLog:
    """Logs the count, and code and field of the latest reject, every ten seconds at most. What the field held is for
    the rejects topic alone."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._count = clock, 0
        self._written_at = clock() - EVERY_S

    def note(self, rejects: Sequence[Message]) -> None:
        """Counts `rejects`, which `messages.rejects` made."""
        self._count += len(rejects)
        now = self._clock()
        if not rejects or now - self._written_at < EVERY_S:
            return
        said = {name: (value or b"").decode(errors="replace") for name, value in rejects[-1].headers}
        where = f"{said['reject_topic']}/{said['reject_partition']}/{said['reject_offset']}"
        why = ": ".join(said["reject_reason"].split(": ")[:2])
        log.warning("%d records rejected so far, the latest at %s: %s", self._count, where, why)
        self._written_at = now
