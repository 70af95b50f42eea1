"""How fast this process folds, for estimates: one figure per process, as it is one set of cores."""

from __future__ import annotations

CAREFUL_PER_S = 30_000  # what a slow machine does; used until a rate is measured
ENOUGH = 20_000
FORGOTTEN_AFTER = 1_000_000


class Pace:
    """Events per second of work, measured only while records wait in the queue."""

    def __init__(self) -> None:
        self._events = 0.0
        self._spent_s = 0.0

    def note(self, events: int, spent_s: float) -> None:
        self._events += events
        self._spent_s += spent_s
        if self._events > FORGOTTEN_AFTER:
            self._events, self._spent_s = self._events / 2, self._spent_s / 2

    @property
    def per_s(self) -> int:
        """0 = not known yet."""
        return round(self._events / self._spent_s) if self._events >= ENOUGH and self._spent_s > 0 else 0


PACE = Pace()
