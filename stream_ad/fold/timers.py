"""A timing wheel in arrays: which slots are due when a clock of event time passes their time.

`head` i64[512] holds a doubly linked list of slots per bucket, `clock` i64[3] where the wheel
stands, `link` i64[capacity,3] one row per slot; all start as zeros and belong to the fold's
state. One timer per slot. A tick is 250 ms: a timer is due within one tick after its time has
passed, never before. Arming, cancelling and telling cost O(1) amortised, a jump of the clock
by any length at most one look at every bucket; slots come in an order that follows from the
calls alone. (Varghese & Lauck, SOSP 1987, scheme 6.)
"""

from __future__ import annotations

from stream_ad.batch import I64
from stream_ad.kernel import kernel

BUCKETS = 512
TICK_MS = 250

_TICK, _NEXT, _PREVIOUS = 0, 1, 2  # of link; next: slot + 1 or 0; previous: slot + 1, -(bucket + 1), or 0 = not armed
_NOW, _AT, _STARTED = 0, 1, 2  # of clock; at: slot + 1 that is looked at next in the present bucket


@kernel
def cancel(slot: int, head: I64, link: I64) -> None:
    """Nothing happens to a slot that is not armed."""
    following, previous = link[slot, _NEXT], link[slot, _PREVIOUS]
    if previous > 0:
        link[previous - 1, _NEXT] = following
    elif previous < 0:
        head[-previous - 1] = following
    if previous != 0 and following > 0:
        link[following - 1, _PREVIOUS] = previous
    link[slot, _PREVIOUS] = 0


@kernel
def arm(slot: int, due_ms: int, head: I64, clock: I64, link: I64) -> None:
    """Moves the slot's timer to `due_ms`; one already past is due at the next tick."""
    cancel(slot, head, link)
    tick = due_ms // TICK_MS + 1
    if clock[_STARTED]:
        tick = max(tick, clock[_NOW] + 1)
    bucket = tick % BUCKETS
    following = head[bucket]
    head[bucket] = slot + 1
    if following > 0:
        link[following - 1, _PREVIOUS] = slot + 1
    link[slot, _TICK], link[slot, _NEXT], link[slot, _PREVIOUS] = tick, following, -(bucket + 1)


@kernel
def arm_by(slot: int, due_ms: int, head: I64, clock: I64, link: I64) -> None:
    """As `arm`, but a timer that is armed for earlier stays: let it come and arm it again then.

    So a time that moves on with every event costs nothing.
    """
    if link[slot, _PREVIOUS] == 0 or link[slot, _TICK] > due_ms // TICK_MS + 1:
        arm(slot, due_ms, head, clock, link)


@kernel
def pop(now_ms: int, head: I64, clock: I64, link: I64) -> int:
    """A slot whose time has passed, no longer armed; -1 = no more. Call it until it says so.

    Between two calls only the slot that was told may be armed or cancelled.
    """
    target = now_ms // TICK_MS
    if not clock[_STARTED]:
        clock[_STARTED], clock[_NOW] = 1, target
        return -1
    while True:
        if clock[_AT] == 0:
            if clock[_NOW] >= target:
                return -1
            clock[_NOW] = max(clock[_NOW] + 1, target - BUCKETS + 1)
            clock[_AT] = head[clock[_NOW] % BUCKETS]
            continue
        slot = clock[_AT] - 1
        clock[_AT] = link[slot, _NEXT]
        if link[slot, _TICK] <= target:
            cancel(slot, head, link)
            return int(slot)
