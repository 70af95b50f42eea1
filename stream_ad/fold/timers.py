"""A timing wheel in arrays: finds the slots whose time a clock of event time has passed.

`head` i64[512] holds a doubly linked list of slots per bucket, `clock` i64[3] where the wheel
stands, `link` i64[capacity,3] one row per slot; all start as zeros and belong to the fold's
state. One timer per slot. A tick is 250 ms: a timer is due within one tick after its time has
passed, never before. Arming, cancelling and popping cost O(1) amortised; a jump of the clock, however long, costs
one look at every bucket at most. The order of due slots follows from the calls alone. (Varghese & Lauck, SOSP 1987,
scheme 6.)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from stream_ad.batch import I64
from stream_ad.fold.state import Records, records
from stream_ad.kernel import kernel

BUCKETS = 512
TICK_MS = 250

LINK = np.dtype(
    [
        ("tick", "i8"),
        ("next", "i8"),  # slot + 1, or 0
        ("previous", "i8"),  # slot + 1, -(bucket + 1), or 0 = not armed
    ]
)
CLOCK = np.dtype(
    [
        ("now", "i8"),  # tick
        ("at", "i8"),  # slot + 1 that is looked at next in the present bucket, or 0
        ("started", "i8"),
    ]
)


class Wheel(NamedTuple):
    head: I64  # [512]  slot + 1, or 0
    clock: Records  # [1]  CLOCK
    link: Records  # [capacity]  LINK


def wheel(head: I64, clock: I64, link: I64) -> Wheel:
    """The wheel that a state's arrays hold."""
    return Wheel(head, records(clock, CLOCK), records(link, LINK))


@kernel
def cancel(slot: int, wheel: Wheel) -> None:
    """Disarms the slot, if it is armed."""
    head, link = wheel.head, wheel.link
    following, previous = link[slot].next, link[slot].previous
    if previous > 0:
        link[previous - 1].next = following
    elif previous < 0:
        head[-previous - 1] = following
    if previous != 0 and following > 0:
        link[following - 1].previous = previous
    link[slot].previous = 0


@kernel
def arm(slot: int, due_ms: int, wheel: Wheel) -> None:
    """Moves the slot's timer to `due_ms`; one already past is due at the next tick."""
    cancel(slot, wheel)
    head, clock, link = wheel.head, wheel.clock[0], wheel.link
    tick = due_ms // TICK_MS + 1
    if clock.started:
        tick = max(tick, clock.now + 1)
    bucket = tick % BUCKETS
    following = head[bucket]
    head[bucket] = slot + 1
    if following > 0:
        link[following - 1].previous = slot + 1
    link[slot].tick, link[slot].next, link[slot].previous = tick, following, -(bucket + 1)


@kernel
def arm_by(slot: int, due_ms: int, wheel: Wheel) -> None:
    """As `arm`, but a timer that is armed for an earlier time stays: arm it again when it is due.

    So a time that moves with every event costs nothing.
    """
    armed = wheel.link[slot]
    if armed.previous == 0 or armed.tick > due_ms // TICK_MS + 1:
        arm(slot, due_ms, wheel)


@kernel
def ticks(now_ms: int, clock: Any) -> bool:
    """Whether `pop` has anything to do, from the clock's record alone: most events come within one tick."""
    return not clock.started or clock.at != 0 or clock.now < now_ms // TICK_MS


@kernel
def pop(now_ms: int, wheel: Wheel) -> int:
    """Disarms a slot whose time has passed and returns it; -1 = there is none. Call it until it returns -1.

    Between two calls only the returned slot may be armed or cancelled.
    """
    head, clock, link = wheel.head, wheel.clock[0], wheel.link
    target = now_ms // TICK_MS
    if not clock.started:
        clock.started, clock.now = 1, target
        return -1
    while True:
        if clock.at == 0:
            if clock.now >= target:
                return -1
            clock.now = max(clock.now + 1, target - BUCKETS + 1)
            clock.at = head[clock.now % BUCKETS]
            continue
        slot = clock.at - 1
        clock.at = link[slot].next
        if link[slot].tick <= target:
            cancel(slot, wheel)
            return int(slot)
