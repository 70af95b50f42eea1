"""Waiting for what is to happen: it ends as soon as that has happened, however slow the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable

# No verdict on speed: only what never happens takes so long. Compiling all loops takes half a minute of a core, and a
# process may have a tenth of one.
WAIT_S = 480.0
LOOK_S = 0.02


def pause() -> None:
    time.sleep(LOOK_S)


def until(
    happened: Callable[[], object],
    meanwhile: Callable[[], object] = pause,
    state: Callable[[], str] = lambda: "",
) -> None:
    """Calls `meanwhile` between two looks; fails with `state()` where it has not happened within `WAIT_S`."""
    deadline_s = time.monotonic() + WAIT_S
    while not happened():
        assert time.monotonic() < deadline_s, f"did not happen within {WAIT_S:.0f} s: {state()}"
        meanwhile()
